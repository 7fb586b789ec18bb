//! The agent's configuration file: any bytes give a configuration or errors that name the file.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use adit::config::Config;

/// Loads a file with the input in it.
pub fn config(data: &[u8]) {
    // Paths in the input would be opened: devices that never end or block are not what is tested here.
    if data.windows(5).any(|window| window == b"/dev/" || window == b"/proc" || window == b"/sys/") {
        return;
    }
    let file = scratch_file();
    if fs::write(&file, data).is_err() {
        return;
    }
    let loaded = Config::load(&file, &|_| None);
    let foreign = Config::foreign_to_ngrok(&file);
    let _ = fs::remove_file(&file);
    if let Err(errors) = loaded {
        let text = errors.to_string();
        assert!(text.contains(&file.display().to_string()), "the errors do not name the file: {text}");
    }
    drop(foreign);
}

/// A name of its own for every call, because tests run at the same time.
fn scratch_file() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("adit-fuzz-{}-{number}.json", std::process::id()))
}
