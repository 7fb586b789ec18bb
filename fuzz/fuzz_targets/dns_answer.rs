#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::dns_answer::dns_answer(data));
