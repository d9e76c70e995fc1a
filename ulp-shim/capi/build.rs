//! Gives the shared library its name and keeps it loaded: handlers of fork() and threads' variables outlive a dlclose().

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,liblatchway.so.0");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
