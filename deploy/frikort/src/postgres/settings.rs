//! The server's settings: sensible for a laptop, durable unless a test asks otherwise.

use std::path::Path;

/// What the cluster is for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether a commit survives a power cut. Without it everything is faster, and the cluster
    /// is for tests only.
    pub durable: bool,
    /// Further server settings, name and value.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { durable: true, settings: Vec::new() }
    }
}

impl Options {
    /// The settings as the server reads them.
    pub(super) fn settings_file(&self, socket_dir: &Path) -> String {
        let socket_dir = socket_dir.to_string_lossy();
        let mut settings = vec![
            ("listen_addresses", ""),
            ("unix_socket_directories", &*socket_dir),
            ("unix_socket_permissions", "0700"),
            ("port", "5432"),
            ("max_connections", "200"),
            ("shared_buffers", "256MB"),
            ("max_wal_size", "2GB"),
            ("timezone", "UTC"),
            // A statement that fails is never written to the log with what it carried.
            ("log_min_error_statement", "panic"),
        ];
        if !self.durable {
            let off = ["fsync", "synchronous_commit", "full_page_writes"];
            settings.extend(off.map(|name| (name, "off")));
        }
        settings.extend(self.settings.iter().map(|(name, value)| (&**name, &**value)));
        let line =
            |(name, value): (&str, &str)| format!("{name} = '{}'\n", value.replace('\'', "''"));
        settings.into_iter().map(line).collect()
    }
}
