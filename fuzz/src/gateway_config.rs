//! The gateway's configuration file: any text gives a configuration or errors that name the file.

use std::path::Path;

use adit_gateway::acl::Rule;
use adit_gateway::config::Config;
use adit_gateway::token::{CredentialId, Token};

/// Reads the input as a file, and as the small texts in it that have a reader of their own.
pub fn gateway_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(rule) = text.parse::<Rule>() {
        assert_eq!(rule.to_string().parse::<Rule>().ok(), Some(rule), "{text:?} changes when it is read again");
    }
    if let Ok(token) = Token::parse(text) {
        assert_eq!(token.expose(), text);
    }
    let _ = text.parse::<CredentialId>();

    // Paths in the input would be opened: devices that never end or block are not what is tested here.
    if ["/dev/", "/proc", "/sys/"].iter().any(|folder| text.contains(folder)) {
        return;
    }
    let file = Path::new("/nonexistent/adit-fuzz/gateway.yml");
    if let Err(errors) = Config::parse(file, text) {
        let shown = errors.to_string();
        assert!(shown.contains("gateway.yml"), "the errors do not name the file: {shown}");
    }
}
