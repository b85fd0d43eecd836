//! The data directory: that it is there, on a disk of this machine, and nobody else's.

use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use super::error::{Result, StoreError};

/// How long a server waits for another that may be just ending, or for a command that makes the database.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Makes the directory where it is missing, for its owner alone: it holds the database and the key. One that is
/// there already keeps the permissions its owner gave it.
pub(super) fn create_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = |error| {
        StoreError::Open(format!(
            "cannot make the data directory {}: {error}",
            dir.display()
        ))
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)
}

/// Makes the directory where it is missing, and takes the lock of its one server: for every server, wherever its database
/// is, because bundles, runs and the mark of its processes are in the directory.
pub(super) fn hold(dir: &Path) -> Result<File> {
    create_private(dir)?;
    lock(dir)
}

/// The lock of the one server of a directory. The operating system gives it up with the process, even on `kill -9`.
pub(super) fn lock(dir: &Path) -> Result<File> {
    let since = Instant::now();
    loop {
        match try_lock(dir)? {
            Some(lock) => return Ok(lock),
            None if since.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOOK_AGAIN),
            None => {
                return Err(StoreError::Open(format!(
                    "another server is running on the data directory {}; stop it, or give this one its own --data-dir",
                    dir.display()
                )));
            }
        }
    }
}

/// The lock; nothing where somebody holds it.
pub(super) fn try_lock(dir: &Path) -> Result<Option<File>> {
    let path = dir.join("server.lock");
    let failed = |error: std::io::Error| StoreError::Open(format!("{}: {error}", path.display()));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed(error.into())),
    }
}

/// Refuses a directory that other machines may write to: SQLite's log lives in memory that processes of one machine
/// share, and locks do not hold over most networks. Two servers there would destroy the database.
pub(super) fn refuse_network(dir: &Path) -> Result<()> {
    match file_system(dir) {
        Some(name) => Err(StoreError::Open(format!(
            "the data directory {} is on a network file system ({name}), where the database would be damaged; \
             put it on a disk of this machine",
            dir.display()
        ))),
        None => Ok(()),
    }
}

/// The network file system that the directory is on, where it is on one and that can be told.
#[cfg(target_os = "linux")]
fn file_system(dir: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let magic = rustix::fs::statfs(dir).ok()?.f_type;
    if let Some(name) = network_by_magic(magic as u32) {
        return Some(name.to_owned());
    }
    // FUSE has one number for all that is built on it; the mount's type has the name.
    let device = std::fs::metadata(dir).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    network_by_mount(&mounts, &format!("{major}:{minor}")).map(str::to_owned)
}

#[cfg(not(target_os = "linux"))]
fn file_system(_dir: &Path) -> Option<String> {
    None
}

/// The name of a network file system by its number in `statfs(2)`. Those by which containers and virtual machines share
/// a folder of their host (9p, virtiofs, overlay) are none: one kernel has the file.
fn network_by_magic(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xfe53_4d42 => "SMB2",
        0xff53_4d42 => "CIFS",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x00c3_6400 => "Ceph",
        _ => return None,
    })
}

/// The type of the mount of a device (`major:minor`) where that is a network file system, from the text of
/// `/proc/self/mountinfo`.
fn network_by_mount<'a>(mounts: &'a str, device: &str) -> Option<&'a str> {
    const NETWORK: [&str; 17] = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "ceph",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "fuse.rclone",
        "fuse.davfs2",
        "fuse.ceph",
        "fuse.ceph-fuse",
        "fuse.glusterfs",
        "fuse.juicefs",
        "fuse.seaweedfs",
    ];
    mounts.lines().find_map(|line| {
        // 36 35 98:0 /root /mount options optional… - type source options
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        (before.split(' ').nth(2) == Some(device) && NETWORK.contains(&kind)).then_some(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_those_of_this_machine() {
        for (magic, name) in [
            (0x6969, "NFS"),
            (0x517b, "SMB"),
            (0xfe53_4d42, "SMB2"),
            (0xff53_4d42, "CIFS"),
            (0x5346_414f, "AFS"),
            (0x00c3_6400, "Ceph"),
        ] {
            assert_eq!(network_by_magic(magic), Some(name));
        }
        // ext4, xfs, btrfs, tmpfs, overlay, 9p, FUSE in general, ZFS.
        for magic in [
            0xef53,
            0x5846_5342,
            0x9123_683e,
            0x0102_1994,
            0x794c_7630,
            0x0102_1997,
            0x6573_5546,
            0x2fc1_2fc1,
        ] {
            assert_eq!(network_by_magic(magic), None, "{magic:x}");
        }
    }

    #[test]
    fn what_is_built_on_fuse_is_told_by_its_mount() {
        let mounts = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:50 / /srv/far rw,nosuid shared:2 master:1 - fuse.sshfs host:/srv rw,user_id=0
41 22 0:51 / /srv/near rw - fuse.bindfs /other rw
42 22 0:52 / /srv/host rw - virtiofs host rw
43 22 0:53 / /srv/n\\040fs rw - nfs4 host:/x rw
44 22 0:5 / /srv - fuse.sshfs rw
";
        for (device, kind) in [
            ("254:0", None),
            ("0:50", Some("fuse.sshfs")),
            ("0:51", None),
            ("0:52", None),
            ("0:53", Some("nfs4")),
            ("0:54", None),
        ] {
            assert_eq!(network_by_mount(mounts, device), kind, "{device}");
        }
        assert_eq!(network_by_mount("what\n\n - \n", "0:50"), None);
    }

    #[test]
    fn a_directory_has_one_server_wherever_its_database_is() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("made/here");
        let held = hold(&dir).unwrap();
        let error = hold(&dir).unwrap_err();
        assert!(error.to_string().contains("another server is running"), "{error}");
        drop(held);
        hold(&dir).unwrap();
    }

    #[test]
    fn the_directory_of_these_tests_is_on_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        refuse_network(folder.path()).unwrap();
    }
}
