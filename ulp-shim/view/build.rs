//! Gives the shared library its name and keeps it loaded: its functions are called for as long as the program runs.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_PANIC").is_ok_and(|panic| panic == "abort") {
        println!(
            "cargo::warning=a thread that is cancelled in this library ends the program: build it with --profile shim"
        );
    }
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,liblatchway-shim.so.0");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
