//! The table of those that use something, and what is said of their limits.

use super::*;
use crate::config::credential::tests::credential;

#[test]
fn table_forgets_credentials_that_nobody_uses() {
    let usages = Usages::default();
    for number in 0..10_000 {
        usages.of(&credential(&format!("site{number}")));
    }
    assert!(usages.lock().capacity() < 16, "{}", usages.lock().capacity());
    let (one, same) = (usages.of(&credential("a")), usages.of(&credential("a")));
    assert!(Arc::ptr_eq(&one, &same));
}

#[test]
fn limit_is_told_of_once_a_minute() {
    let usages = Usages::default();
    let mut limited = credential("a");
    limited.limits.streams_max = Some(1);
    let (usage, start) = (usages.of(&limited), Instant::now());
    let _place = usage.enter(start).unwrap();
    let told_at = |after: Duration| {
        assert!(usage.enter(start + after).is_err());
        usage.lock().told_at.unwrap() - start
    };
    assert_eq!(told_at(Duration::ZERO), Duration::ZERO);
    assert_eq!(told_at(Duration::from_secs(59)), Duration::ZERO);
    assert_eq!(told_at(TELL_INTERVAL), TELL_INTERVAL);
}
