//! Gives the shared library its name and keeps it loaded: its functions are called for as long as the program runs.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,liblatchway-shim.so.0");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
