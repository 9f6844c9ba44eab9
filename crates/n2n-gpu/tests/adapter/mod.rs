//! The device that the tests run on: the first available, or the one whose number `N2N_TEST_GPU` gives. Where there
//! is no device, the tests pass without checking anything, and say so; if `N2N_TEST_GPU` is set, they fail.

/// Chooses one of `adapters`; `name` returns the name of an adapter.
pub fn choose<A>(adapters: Vec<A>, name: impl Fn(&A) -> &str) -> Option<A> {
    let asked = std::env::var("N2N_TEST_GPU").ok();
    let number = asked.as_ref().map_or(0, |number| number.parse().unwrap());
    let adapter = adapters.into_iter().nth(number);
    if let Some(adapter) = &adapter {
        println!("on {}", name(adapter));
    } else {
        assert!(asked.is_none(), "no GPU of number {number}");
        println!("skipped: there is no GPU, nor a program that stands in for one");
    }
    adapter
}
