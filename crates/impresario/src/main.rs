//! The `impresario` binary.
fn main() {}
