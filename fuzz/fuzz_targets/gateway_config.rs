#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::gateway_config::gateway_config(data));
