//! The folder where system calls and, if anywhere, unsafe code live.
