//! The kernel's list of mounts, read as bytes: a path need not be UTF-8, and one line that cannot be
//! understood hides no other. Pure.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount, as a line of `mountinfo` (proc_pid_mountinfo(5)) has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounted {
    id: u64,
    parent: u64,
    /// Where it is mounted.
    pub at: PathBuf,
    /// Its file system's type.
    pub kind: OsString,
    /// Whether it, or its file system, is read-only.
    pub read_only: bool,
}

impl Mounted {
    /// Reads one line; `None` where it is none.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
        let (id, parent) = (number(fields.next()?)?, number(fields.next()?)?);
        let at = PathBuf::from(OsString::from_vec(unescape(fields.nth(2)?)));
        let options = fields.next()?;
        // Optional fields end with a lone dash; type, source and the file system's options follow.
        fields.find(|field| *field == b"-")?;
        let kind = OsString::from_vec(unescape(fields.next()?));
        let super_options = fields.nth(1).unwrap_or_default();
        let ro = |options: &[u8]| options.split(|byte| *byte == b',').any(|one| one == b"ro");
        Some(Self { id, parent, at, kind, read_only: ro(options) || ro(super_options) })
    }
}

/// The kernel writes blank, tab, line end and backslash as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let octal = |digits: &[u8]| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok().filter(|_| !text.starts_with('+'))
        };
        match (*byte, after.get(..3).and_then(octal)) {
            (b'\\', Some(value)) => {
                bytes.push(value);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    bytes
}

/// Where file systems of one type are mounted.
pub(crate) fn points_of(kind: &str, mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n').filter_map(Mounted::parse);
    lines.filter(|mounted| mounted.kind == kind).map(|mounted| mounted.at).collect()
}

/// All mounts of one mount namespace, and those among them that lie on the way to one path.
#[derive(Debug)]
pub(crate) struct Mounts<'a> {
    path: &'a Path,
    /// Ids of all mounts.
    ids: HashSet<u64>,
    /// Mounts at `path` or above it.
    on_the_way: Vec<Mounted>,
}

impl<'a> Mounts<'a> {
    /// Reads a `mountinfo`, for questions about `path`.
    pub(crate) fn on_the_way_to(path: &'a Path, mountinfo: &[u8]) -> Self {
        let mut this = Self { path, ids: HashSet::new(), on_the_way: Vec::new() };
        for line in mountinfo.split(|byte| *byte == b'\n') {
            let Some(mounted) = Mounted::parse(line) else { continue };
            this.ids.insert(mounted.id);
            if path.as_os_str().as_bytes().starts_with(mounted.at.as_os_str().as_bytes())
                && path.starts_with(&mounted.at)
            {
                this.on_the_way.push(mounted);
            }
        }
        this
    }

    /// Every mount at the path, also those that others hide.
    pub(crate) fn at_path(&self) -> impl Iterator<Item = &Mounted> {
        self.on_the_way.iter().filter(|mounted| mounted.at == self.path)
    }

    /// The mount that the path leads to, if the path is a mount point.
    ///
    /// mountinfo also lists mounts that others hide: those below a fresh /proc, for one. So the path
    /// is walked as the kernel does, from mount to mount.
    pub(crate) fn visible(&self) -> Option<&Mounted> {
        let mut prefixes: Vec<_> = self.path.ancestors().collect();
        prefixes.reverse();
        let mut here: Option<&Mounted> = None;
        // The kernel gives no circle of parents; a text may.
        let mut left = self.on_the_way.len();
        for prefix in prefixes {
            // Mounts may be stacked on one point. After a chroot the first has no parent in the list.
            let next = |here: Option<&Mounted>| {
                self.on_the_way.iter().find(|mounted| {
                    let on_top = match here {
                        None => mounted.parent == mounted.id || !self.ids.contains(&mounted.parent),
                        Some(here) => mounted.parent == here.id && mounted.id != here.id,
                    };
                    on_top && mounted.at == prefix
                })
            };
            while let Some(mounted) = next(here).filter(|_| left > 0) {
                here = Some(mounted);
                left -= 1;
            }
        }
        here.filter(|mounted| mounted.at == self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::MOUNT_POINT;

    const PLAIN: &str = "\
        29 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
        23 29 0:22 / /proc rw - proc proc rw\n\
        34 23 0:30 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n\
        57 34 0:45 / /proc/sys/fs/binfmt_misc rw - binfmt_misc binfmt_misc rw\n";

    fn at(mountinfo: &[u8], path: &str) -> Option<String> {
        let mounts = Mounts::on_the_way_to(Path::new(path), mountinfo);
        mounts.visible().map(|mounted| mounted.kind.to_string_lossy().into_owned())
    }

    #[test]
    fn of_stacked_mounts_the_top_one_is_seen() {
        assert_eq!(at(PLAIN.as_bytes(), MOUNT_POINT).as_deref(), Some("binfmt_misc"));
        assert_eq!(at(PLAIN.as_bytes(), "/proc/sys"), None);
    }

    #[test]
    fn what_a_fresh_proc_hides_is_not_seen() {
        let fresh = format!("{PLAIN}60 23 0:50 / /proc rw - proc proc rw\n");
        assert_eq!(at(fresh.as_bytes(), MOUNT_POINT), None);
        let mounted =
            format!("{fresh}61 60 0:51 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw\n");
        assert_eq!(at(mounted.as_bytes(), MOUNT_POINT).as_deref(), Some("binfmt_misc"));
    }

    #[test]
    fn after_a_chroot_the_first_mount_has_no_parent() {
        let chroot = b"57 34 0:45 / /binfmt_misc rw - binfmt_misc binfmt_misc rw\n";
        assert_eq!(at(chroot, "/binfmt_misc").as_deref(), Some("binfmt_misc"));
    }

    #[test]
    fn what_cannot_be_read_hides_nothing_else() {
        let odd = [
            b"nonsense\n99 29 0:99 / /mnt/\xff\\040x rw - fuse \\134 rw\n\n1 2\n".as_slice(),
            PLAIN.as_bytes(),
        ]
        .concat();
        assert_eq!(at(&odd, MOUNT_POINT).as_deref(), Some("binfmt_misc"));
    }

    #[test]
    fn escapes_are_undone() {
        let line =
            b"5 1 0:9 / /a\\040b\\134\\011c\\12x ro,nosuid shared:1 master:2 - tmpfs none rw";
        let mounted = Mounted::parse(line).unwrap();
        assert_eq!(mounted.at, Path::new("/a b\\\tc\\12x"));
        assert!(mounted.read_only);
        assert!(!Mounted::parse(b"5 1 0:9 / / rw - tmpfs none rw,size=4k").unwrap().read_only);
        assert!(Mounted::parse(b"5 1 0:9 / / rw - tmpfs none ro").unwrap().read_only);
    }
}
