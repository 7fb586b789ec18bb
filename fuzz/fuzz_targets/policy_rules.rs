#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::policy_rules::policy_rules(data));
