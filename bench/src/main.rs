//! Benchmarks.
mod memory;
fn main() {
    for row in memory::run() {
        println!("{row:?}");
    }
}
