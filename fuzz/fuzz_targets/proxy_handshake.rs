#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| adit_fuzz::proxy_handshake::proxy_handshake(data));
