#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::log_in::log_in(data));
