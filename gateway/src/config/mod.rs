//! The gateway's configuration: one YAML or JSON file, read and checked whole.
//!
//! What is in a [`Config`] needs no further check: policies are compiled, certificates match their keys, nothing refers
//! to what is not there. A file with any mistake gives all its mistakes and no `Config`.

pub mod accounts;
pub mod acme;
pub mod admin;
pub mod certificate;
mod cloud_endpoint;
pub mod credential;
pub mod events;
pub mod limits;
pub mod listeners;
pub mod log_ins;
pub mod networks;
mod ocsp;
pub mod public_names;
mod traffic_logs;
pub mod trusted_proxies;
mod vaults;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adit::config::problem::Problem;
pub use adit::config::problem::{ConfigErrors, Warning};
use adit::config::reader::{Object, Reader};
use adit::endpoint_url::Scheme;

use crate::credentials::directory::Directory;
use crate::http::reach::CloudEndpoint;
use crate::identity_key::IdentityKey;
use crate::ledger::LedgerConfig;
use crate::log::{LogFormat, LogLevel};
use crate::login::hand_over::CallbackHost;
use crate::policy::Own;
use crate::yaml;
use accounts::Accounts;
use acme::AcmeConfig;
use admin::AdminConfig;
use certificate::Certificate;
use cloud_endpoint::Surroundings;
use events::EventsConfig;
use limits::Limits;
use listeners::{AgentPorts, Listeners, TcpListeners};
use log_ins::LogInConfig;
use public_names::PublicNames;

/// A configuration that holds together.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it came from.
    pub file: PathBuf,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Logs of traffic and of administrative acts.
    pub ledger: LedgerConfig,
    /// How agents reach the gateway.
    pub connect: ConnectConfig,
    /// Where it listens.
    pub listeners: Listeners,
    /// Where it can be looked at and told what to do.
    pub admin: AdminConfig,
    /// The certificates for agents and visitors; the first one is for those who name nothing.
    pub certificates: Vec<Certificate>,
    /// The authority that issues others.
    pub acme: Option<Arc<AcmeConfig>>,
    /// Where the key is, or will be kept, that authenticates the identities of agents.
    pub key_file: PathBuf,
    /// What log-ins are kept with.
    pub log_ins: LogInConfig,
    /// The public names that agents may have.
    pub public_names: PublicNames,
    /// Who may log in.
    pub accounts: Accounts,
    /// Where more credentials are, one file each, and what was read there; they are among `accounts`.
    pub credentials_directory: Option<Directory>,
    /// Public endpoints of the gateway itself, each on a slot of its own.
    pub cloud_endpoints: Vec<Arc<CloudEndpoint>>,
    /// What policies may do.
    pub policies: PoliciesConfig,
    /// What operators are told of.
    pub events: EventsConfig,
    /// The bounds to keep.
    pub limits: Limits,
    /// What policies of the gateway's own endpoints may use.
    pub own: Arc<Own>,
}

/// What policies may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoliciesConfig {
    /// Whether `http-request` actions may ask servers of the public internet, and not only the account's endpoints.
    pub outside_requests: bool,
}

/// How agents reach the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectConfig {
    /// The names in agents' `connect_url`, in lower case.
    pub names: Vec<String>,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// The least important lines that are written.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
}

impl Config {
    /// Reads and checks a file. It changes nothing: a key that is not there yet is made by
    /// [`IdentityKey::load_or_create`].
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with file, key path, value and what would be right.
    pub fn load(file: &Path) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let text = bounded_text(file, yaml::TEXT_LEN_MAX).map_err(|expected| void(file, expected))?;
        Self::parse(file, &text)
    }

    /// Reads and checks a text as if it stood in `file`: relative paths in it begin at the file's directory.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn parse(file: &Path, text: &str) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let reader = Reader::new(file.display().to_string());
        let document = yaml::parse(text).map_err(|error| void(file, format!("is neither YAML nor JSON: {error}")))?;
        let tree = reader.accept(document);
        let config = reader.object(&tree, "").map(|root| Self::read(file, root));
        let warnings = reader.finish()?;
        let config = config.ok_or_else(|| void(file, "must be an object".to_owned()))?;
        Ok((config, warnings))
    }

    /// Names what a reload cannot change, because sockets and identities that are in use depend on it; each as the key
    /// in the file. Everything else takes effect at once.
    #[must_use]
    pub fn changes_needing_restart(old: &Self, new: &Self) -> Vec<String> {
        let (before, after) = (&old.listeners, &new.listeners);
        let changes = [
            ("listeners.agents", before.agents != after.agents),
            ("listeners.http", before.http != after.http),
            ("listeners.https", before.https != after.https),
            ("listeners.tls", before.tls != after.tls),
            ("listeners.tcp.addresses", before.tcp.addresses != after.tcp.addresses),
            ("admin", !old.admin.is_like(&new.admin)),
            ("key_file", old.key_file != new.key_file),
            ("log_ins", old.log_ins != new.log_ins),
            ("log.format", old.log.format != new.log.format),
            ("access_log", old.ledger.access != new.ledger.access),
            ("audit_log", old.ledger.audit != new.ledger.audit),
        ];
        changes.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key.to_owned()).collect()
    }

    /// Takes back from the configuration in force what a reload cannot change, so that what is said here is what is, and
    /// the credentials whose files cannot be used now.
    pub fn keep_from(&mut self, old: &Self) {
        let tcp_addresses = old.listeners.tcp.addresses.clone();
        let agent_ports = self.listeners.tcp.agent_ports.clone();
        let trusted_proxies = self.listeners.trusted_proxies.clone();
        self.listeners = old.listeners.clone();
        self.listeners.tcp = TcpListeners { addresses: tcp_addresses, agent_ports };
        self.listeners.trusted_proxies = trusted_proxies;
        self.admin.clone_from(&old.admin);
        self.key_file.clone_from(&old.key_file);
        self.log_ins.clone_from(&old.log_ins);
        self.log.format = old.log.format;
        self.ledger.clone_from(&old.ledger);
        if let (Some(directory), Some(before)) = (&mut self.credentials_directory, &old.credentials_directory) {
            directory.keep_from(before, &self.accounts);
            self.accounts.set_filed(directory.credentials());
        }
    }

    /// Puts what was read of the directory of credentials in force.
    pub(crate) fn set_credentials(&mut self, directory: Directory) {
        self.accounts.set_filed(directory.credentials());
        self.credentials_directory = Some(directory);
    }

    /// What is in it, in one line for a person.
    #[must_use]
    pub fn summary(&self) -> String {
        let counts = [
            (self.accounts.iter().count(), "account", "accounts"),
            (self.accounts.credentials().count(), "credential", "credentials"),
            (self.cloud_endpoints.len(), "cloud endpoint", "cloud endpoints"),
            (self.certificates.len(), "certificate", "certificates"),
        ];
        let counts = counts.map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }));
        counts.join(", ")
    }

    fn read(file: &Path, mut root: Object<'_>) -> Self {
        let base = Base::of(file);
        let reader = root.reader();
        root.integer("version", VERSION..=VERSION);
        let log = read_log(root.object("log"));
        let ledger = traffic_logs::read(&mut root, &base);
        let connect = ConnectConfig::read(root.object("connect"));
        let section = root.required_object("listeners");
        let (listeners, listeners_fine) = watched(reader, || Listeners::read(section));
        let admin = AdminConfig::read(root.object("admin"), &base);
        let entries = root.objects("certificates", CERTIFICATES_MAX);
        let (certificates, certificates_fine) = watched(reader, || read_certificates(entries, &base));
        let acme_section = root.object("acme");
        let has_acme = acme_section.is_some();
        let mut acme = AcmeConfig::read(acme_section, &base, listeners_fine.then_some(&listeners));
        let acme_fine = acme.is_some() == has_acme;
        let key_file = read_key_file(&mut root, &base);
        let log_ins = LogInConfig::read(root.object("log_ins"), &base);
        let public_names = PublicNames::read(&mut root);
        let mut accounts = Accounts::read(&mut root);
        let credentials_directory = read_directory(&mut root, &base, &accounts);
        accounts.set_filed(credentials_directory.iter().flat_map(Directory::credentials));
        let policies = PoliciesConfig::read(root.object("policies"));
        let own = Arc::new(Own::new(vaults::read(&mut root, &base)));
        let surroundings = Surroundings {
            base: &base,
            policies,
            own: &own,
            accounts: &accounts,
            listeners: listeners_fine.then_some(&listeners),
            connect_names: &connect.names,
            certificates: (certificates_fine && acme_fine).then_some(&certificates),
            acme: acme.as_ref(),
        };
        let cloud_endpoints = surroundings.read(&mut root);
        if let Some(acme) = &mut acme {
            settle(acme, (&connect, &log_ins), &cloud_endpoints, &certificates);
        }
        let acme = acme.map(Arc::new);
        let events = EventsConfig::read(root.object("events"), &base);
        let limits = Limits::read(root.object("limits"));
        let file = file.to_owned();
        let config = Self {
            file,
            log,
            ledger,
            connect,
            listeners,
            admin,
            certificates,
            acme,
            key_file,
            log_ins,
            public_names,
            accounts,
            credentials_directory,
            cloud_endpoints,
            policies,
            events,
            limits,
            own,
        };
        if listeners_fine && certificates_fine && acme_fine {
            config.check(&root);
        }
        root.finish();
        config
    }

    /// Everybody who logs in passes there.
    fn check_callback_host(&self, host: &str, root: &Object<'_>, is_covered: bool) {
        let problem = if !self.listeners.has(Scheme::Https) {
            "can never be reached: there is no listeners.https"
        } else if self.listeners.agents_share() && self.connect.names.iter().any(|name| name == host) {
            "is the name that agents connect to on the same socket: give one of them another name"
        } else if !is_covered {
            "no certificate is valid for this name, so no browser would go there"
        } else {
            return;
        };
        root.reader().problem("log_ins.callback_host", Some(host.to_owned()), problem);
    }

    /// What concerns several sections at once.
    fn check(&self, root: &Object<'_>) {
        let reader = root.reader();
        let names_obtained = self.acme.as_ref().map(|acme| acme.names.len());
        if self.certificates.is_empty() && names_obtained.unwrap_or_default() == 0 {
            root.missing("certificates", "agents connect over TLS, so there must be one at least, here or by acme");
        }
        if self.listeners.agents_share() && self.connect.names.is_empty() {
            let expected =
                "is missing: agents share a socket with visitors, and are told apart by the name they connect to";
            reader.problem("connect.names", None, expected);
        }
        if self.listeners.tcp.agent_ports != AgentPorts::None && self.tcp_host().is_none() {
            let expected = "needs a name for the URLs of these ports: set connect.names or base_domain";
            let shown = Some(self.listeners.tcp.agent_ports.to_string());
            reader.problem("listeners.tcp.agent_ports", shown, expected);
        }
        let will_be = |name: &str| self.acme.as_ref().is_some_and(|acme| acme.names.iter().any(|other| other == name));
        let is_covered = |name: &str| self.certificates.iter().any(|one| one.covers(name)) || will_be(name);
        for name in self.connect.names.iter().filter(|name| !is_covered(name)) {
            if !self.certificates.is_empty() || self.acme.is_some() {
                let expected = "no certificate is valid for this name, so no agent would connect to it";
                reader.problem("connect.names", Some(name.clone()), expected);
            }
        }
        if let Some(callback_host) = &self.log_ins.callback_host {
            self.check_callback_host(callback_host.host(), root, is_covered(callback_host.host()));
        }
        if let Some(base) = self.public_names.base_domain()
            && self.listeners.has(Scheme::Https)
            && !is_covered(&format!("any.{base}"))
        {
            root.warn("base_domain", format_args!("no certificate is valid for *.{base}: visitors will be warned"));
        }
        if self.accounts.credentials().next().is_none() && self.credentials_directory.is_none() {
            root.warn("credentials", "there are none: no agent can log in; make one with `adit-gateway token new`");
        }
    }
}

impl ConnectConfig {
    fn read(section: Option<Object<'_>>) -> Self {
        let Some(mut section) = section else { return Self::default() };
        let names = section.parsed_list("names", CONNECT_NAMES_MAX, public_names::parse_name);
        section.finish();
        Self { names }
    }
}

impl PoliciesConfig {
    fn read(section: Option<Object<'_>>) -> Self {
        let Some(mut section) = section else { return Self::default() };
        let outside_requests = section.boolean("outside_requests").unwrap_or_default();
        section.finish();
        Self { outside_requests }
    }
}

/// Where relative paths begin: the directory of the file that they stand in.
#[derive(Debug)]
struct Base(PathBuf);

impl Base {
    fn of(file: &Path) -> Self {
        Self(file.parent().unwrap_or(Path::new("")).to_owned())
    }

    fn resolve(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
}

/// Tells whether reading something went without a problem.
fn watched<T>(reader: &Reader, read: impl FnOnce() -> T) -> (T, bool) {
    let before = reader.problem_count();
    let value = read();
    (value, reader.problem_count() == before)
}

fn read_log(section: Option<Object<'_>>) -> LogConfig {
    let Some(mut section) = section else { return LogConfig::default() };
    let level = section.word("level", &LogLevel::WORDS).unwrap_or_default();
    let format = section.word("format", &LogFormat::WORDS).unwrap_or_default();
    section.finish();
    LogConfig { level, format }
}

fn read_certificates(entries: Vec<Object<'_>>, base: &Base) -> Vec<Certificate> {
    entries.into_iter().filter_map(|entry| Certificate::read(entry, base)).collect()
}

/// Without a list, the authority is asked for the names of agents and of `https` endpoints that no file covers.
fn settle(
    acme: &mut AcmeConfig,
    (connect, log_ins): (&ConnectConfig, &LogInConfig),
    endpoints: &[Arc<CloudEndpoint>],
    files: &[Certificate],
) {
    let endpoints = endpoints.iter().filter(|endpoint| endpoint.url.scheme() == Scheme::Https);
    let names = connect.names.iter().map(String::as_str).chain(endpoints.map(|endpoint| endpoint.url.host()));
    let names = names.chain(log_ins.callback_host.as_ref().map(CallbackHost::host));
    acme.settle(names.filter(|name| !files.iter().any(|file| file.covers(name))));
}

/// A directory that is not there is a mistake; a file in it that cannot be used keeps only its own agents out.
fn read_directory(root: &mut Object<'_>, base: &Base, accounts: &Accounts) -> Option<Directory> {
    let path = base.resolve(&root.string(CREDENTIALS_DIRECTORY)?);
    match Directory::read(path, accounts) {
        Ok((directory, problems)) => {
            problems.iter().for_each(|problem| root.warn(CREDENTIALS_DIRECTORY, problem));
            Some(directory)
        }
        Err(error) => {
            root.problem(CREDENTIALS_DIRECTORY, error);
            None
        }
    }
}

/// An unusable key is found now and not when the gateway starts; a missing one can be made.
fn read_key_file(root: &mut Object<'_>, base: &Base) -> PathBuf {
    let file = base.resolve(&root.string("key_file").unwrap_or_else(|| KEY_FILE_DEFAULT.to_owned()));
    if let Err(error) = IdentityKey::load(&file) {
        root.reader().problem("key_file", Some(file.display().to_string()), error);
    }
    file
}

/// Reads a text file of at most `len_max` bytes.
///
/// # Errors
///
/// What is wrong with it, in words.
pub fn bounded_text(file: &Path, len_max: usize) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let mut text = Vec::new();
    let limit = u64::try_from(len_max).unwrap_or(u64::MAX).saturating_add(1);
    File::open(file).map_err(cannot)?.take(limit).read_to_end(&mut text).map_err(cannot)?;
    if text.len() > len_max {
        return Err(format!("is longer than {len_max} bytes"));
    }
    String::from_utf8(text).map_err(|_| "is not UTF-8 text".to_owned())
}

/// The error of a file of which nothing else can be said.
fn void(file: &Path, expected: String) -> ConfigErrors {
    Problem { file: file.display().to_string(), path: String::new(), value: None, expected }.into()
}

const CREDENTIALS_DIRECTORY: &str = "credentials_directory";
/// The version of the file's format. Absent means the same.
const VERSION: u64 = 1;
/// Beside the configuration unless it says otherwise.
const KEY_FILE_DEFAULT: &str = "identity.key";
/// One gateway goes by few names.
const CONNECT_NAMES_MAX: usize = 64;
/// A public name may have one each; the resolver looks them up by name.
const CERTIFICATES_MAX: usize = 10_000;
