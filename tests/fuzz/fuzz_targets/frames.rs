#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| frikort_tests::fuzz::run("frames", data));
