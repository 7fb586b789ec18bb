#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::endpoint_url::endpoint_url(data));
