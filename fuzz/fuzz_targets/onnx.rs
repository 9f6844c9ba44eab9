#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| n2n_fuzz::read_weights(bytes));
