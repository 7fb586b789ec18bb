//! What the tests that replay the corpus share; they include this file by its path.

use std::fs;
use std::path::Path;

/// Runs a target over its folder in `corpus`, a path from the package. An empty one is an error: it would test nothing.
#[expect(clippy::unwrap_used, reason = "a test may end here, the path is printed")]
pub(crate) fn replay(corpus: &str, target: &str, run: fn(&[u8])) {
    let folder = Path::new(corpus).join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        run(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}
