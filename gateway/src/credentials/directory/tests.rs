//! Files that come, change, go, break, and claim what another one has.

use tempfile::TempDir;

use super::*;
use crate::config::Config;

const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// A directory of credentials, and the accounts of a gateway beside it.
struct Site {
    _home: TempDir,
    path: PathBuf,
    accounts: Accounts,
}

impl Site {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).unwrap();
        fs::write(home.path().join("certificate.pem"), made.cert.pem()).unwrap();
        fs::write(home.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let text = format!(
            "listeners: {{agents: '127.0.0.1:0'}}\n\
             certificates: [{{certificate_file: certificate.pem, private_key_file: key.pem}}]\n\
             credentials: [{{id: listed, hashes: ['{HASH}'], allow_any: true}}]\n"
        );
        let accounts = Config::parse(&home.path().join("gateway.yml"), &text).unwrap().0.accounts;
        let path = home.path().join("sites");
        fs::create_dir(&path).unwrap();
        Self { _home: home, path, accounts }
    }

    /// Another text is another length, so that no clock has to tell two states of a file apart.
    fn write(&self, name: &str, id: &str, rule: &str) {
        fs::write(self.path.join(name), format!("id: {id}\nhashes: ['{HASH}']\nacl: ['bind:{rule}']\n")).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path.join(name)).unwrap();
    }

    fn read(&self) -> (Directory, Vec<String>) {
        Directory::read(self.path.clone(), &self.accounts).unwrap()
    }

    /// Looks until whatever was written has settled.
    fn look(&self, directory: &mut Directory) -> Found {
        assert!(!directory.look(&self.accounts).is_changed, "it may still be in the making");
        directory.look(&self.accounts)
    }
}

fn ids(directory: &Directory) -> Vec<String> {
    let mut ids: Vec<String> = directory.credentials().map(|credential| credential.id.to_string()).collect();
    ids.sort();
    ids
}

fn allows(directory: &Directory, id: &str, url: &str) -> bool {
    directory.credentials().find(|one| &*one.id == id).unwrap().acl.allows(&url.parse().unwrap())
}

#[test]
fn files_come_change_and_go() {
    let site = Site::new();
    site.write("a.yml", "a", "a.internal");
    let (mut directory, problems) = site.read();
    assert_eq!((ids(&directory), problems.len()), (vec!["a".to_owned()], 0));
    assert_eq!(directory.look(&site.accounts), Found::default());

    site.write("b.yml", "b", "b.internal");
    assert!(site.look(&mut directory).is_changed);
    assert_eq!(ids(&directory), ["a", "b"]);
    site.write("a.yml", "a", "other.internal");
    assert!(site.look(&mut directory).is_changed);
    assert!(allows(&directory, "a", "https://other.internal") && !allows(&directory, "a", "https://a.internal"));
    site.remove("a.yml");
    assert!(site.look(&mut directory).is_changed);
    assert_eq!(ids(&directory), ["b"]);
    assert_eq!(site.look(&mut directory), Found::default());
}

#[test]
fn only_files_of_credentials_are_looked_at() {
    let site = Site::new();
    for name in [".a.yml", "a.yml~", ".a.yml.swp", "a.yaml", "4913", "a.yml.tmp"] {
        site.write(name, "a", "a.internal");
    }
    let (mut directory, problems) = site.read();
    assert_eq!((ids(&directory).len(), problems.len()), (0, 0));
    assert_eq!(site.look(&mut directory), Found::default());
}

#[test]
fn bad_file_leaves_its_credential_as_it_was_and_is_named_once() {
    let site = Site::new();
    site.write("a.yml", "a", "a.internal");
    let (mut directory, _) = site.read();
    for bad in ["id: a\nhashes: [", "", "id: a", "[]", &format!("id: a{}", "x".repeat(file::FILE_LEN_MAX))] {
        fs::write(site.path.join("a.yml"), bad).unwrap();
        let found = site.look(&mut directory);
        assert!(!found.is_changed);
        assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
        let problem = &found.problems[0];
        assert!(problem.contains("a.yml: ") && problem.ends_with("the credential a stays as it was"), "{problem}");
        assert_eq!(directory.look(&site.accounts), Found::default());
        assert!(allows(&directory, "a", "https://a.internal"));
    }
    site.write("a.yml", "a", "mended.internal");
    assert!(site.look(&mut directory).is_changed);
    assert!(allows(&directory, "a", "https://mended.internal"));
}

#[test]
fn file_of_the_longest_length_is_read() {
    let site = Site::new();
    site.write("a.yml", "a", "a.internal");
    let mut text = fs::read_to_string(site.path.join("a.yml")).unwrap() + "#";
    text += &"x".repeat(file::FILE_LEN_MAX - text.len());
    fs::write(site.path.join("a.yml"), &text).unwrap();
    assert_eq!(ids(&site.read().0), ["a"]);
    fs::write(site.path.join("a.yml"), text + "x").unwrap();
    let (directory, problems) = site.read();
    assert_eq!(ids(&directory).len(), 0);
    assert!(problems[0].contains("is longer than 65536 bytes"), "{problems:?}");
}

#[test]
fn file_that_is_away_for_one_look_is_not_gone() {
    let site = Site::new();
    site.write("a.yml", "a", "a.internal");
    let (mut directory, _) = site.read();
    // As an editor does that makes a backup copy.
    fs::rename(site.path.join("a.yml"), site.path.join("a.yml~")).unwrap();
    assert_eq!(directory.look(&site.accounts), Found::default());
    site.write("a.yml", "a", "edited.internal");
    assert_eq!(directory.look(&site.accounts), Found::default());
    let found = directory.look(&site.accounts);
    assert!(found.is_changed && allows(&directory, "a", "https://edited.internal"));
    assert_eq!(found.told.len(), 1, "{:?}", found.told);
}

#[test]
fn id_stays_with_the_file_that_had_it_first() {
    let site = Site::new();
    site.write("b.yml", "a", "first.internal");
    let (mut directory, _) = site.read();
    site.write("a.yml", "a", "second.internal");
    site.write("c.yml", "listed", "listed.internal");
    let found = site.look(&mut directory);
    assert!(!found.is_changed && allows(&directory, "a", "https://first.internal"));
    assert_eq!(found.problems.len(), 2, "{:?}", found.problems);
    assert!(found.problems[0].contains("a.yml: is not used: a is the id of a credential in b.yml already"));
    assert!(
        found.problems[1].contains("c.yml: is not used: listed is the id of a credential in the gateway's own file")
    );
    assert_eq!(ids(&directory), ["a"]);
    site.remove("b.yml");
    let found = site.look(&mut directory);
    assert!(found.is_changed && found.problems.is_empty(), "{found:?}");
    assert!(allows(&directory, "a", "https://second.internal"));
}

#[test]
fn directory_that_cannot_be_listed_cuts_nobody_off() {
    let site = Site::new();
    site.write("a.yml", "a", "a.internal");
    let (mut directory, _) = site.read();
    let away = site.path.with_extension("away");
    fs::rename(&site.path, &away).unwrap();
    assert_eq!(directory.look(&site.accounts).problems.len(), 1);
    for _ in 0..3 {
        assert_eq!(directory.look(&site.accounts), Found::default());
    }
    assert_eq!(ids(&directory), ["a"]);
    fs::rename(&away, &site.path).unwrap();
    site.remove("a.yml");
    assert!(site.look(&mut directory).is_changed);
}

#[test]
fn another_directory_without_files_cuts_nobody_off() {
    let site = Site::new();
    site.write("a.yml", "a", "a.internal");
    let (mut directory, _) = site.read();
    // As when the disk is unmounted: the place where it was mounted is there, and empty.
    let away = site.path.with_extension("away");
    fs::rename(&site.path, &away).unwrap();
    fs::create_dir(&site.path).unwrap();
    fs::write(site.path.join("README"), "mount the disk here").unwrap();
    let problems = directory.look(&site.accounts).problems;
    assert!(problems.len() == 1 && problems[0].contains("mount it again"), "{problems:?}");
    for _ in 0..3 {
        assert_eq!(directory.look(&site.accounts), Found::default());
    }
    assert_eq!(ids(&directory), ["a"]);
    // A reading of everything at the wrong moment believes it no more.
    let (mut read, _) = site.read();
    read.keep_from(&directory, &site.accounts);
    assert_eq!(ids(&read), ["a"]);
    assert_eq!(read.look(&site.accounts), Found::default());
    assert_eq!(ids(&read), ["a"]);

    for mut directory in [directory, read] {
        fs::remove_dir_all(&site.path).unwrap();
        fs::rename(&away, &site.path).unwrap();
        for _ in 0..3 {
            assert!(!directory.look(&site.accounts).is_changed);
        }
        assert_eq!(ids(&directory), ["a"]);
        fs::rename(&site.path, &away).unwrap();
        fs::create_dir(&site.path).unwrap();
        site.write("b.yml", "b", "b.internal");
        assert!(site.look(&mut directory).is_changed);
        assert_eq!(ids(&directory), ["b"]);
    }
}

#[test]
fn files_beyond_the_limit_are_not_read_and_push_none_out() {
    let site = Site::new();
    site.write("z.yml", "z", "z.internal");
    let (mut directory, _) = site.read();
    let many = |count: usize| -> BTreeSet<String> {
        (1..count).map(|number| format!("{number:05}.yml")).chain(["z.yml".to_owned()]).collect()
    };
    let mut found = Found::default();
    assert_eq!(directory.within_limit(many(FILES_MAX), &mut found).len(), FILES_MAX);
    assert_eq!(found.problems.len(), 0);
    for _ in 0..2 {
        let names = directory.within_limit(many(FILES_MAX + 1), &mut found);
        assert!(names.len() == FILES_MAX && names.contains("z.yml") && !names.contains("10000.yml"));
        assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
    }
}

#[test]
fn what_is_no_file_is_never_opened() {
    let site = Site::new();
    fs::create_dir(site.path.join("folder.yml")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", site.path.join("device.yml")).unwrap();
    let (_, problems) = site.read();
    assert_eq!(problems.len(), 2);
    assert!(problems.iter().all(|problem| problem.contains("is no file that can be read")), "{problems:?}");
}
