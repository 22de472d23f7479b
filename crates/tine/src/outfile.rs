//! A file that appears only when it is whole: written without a name, synced, then given its name.

use crate::failure::local_error;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use tine_model::{NewFiles, Result};

/// A file being written.
#[derive(Debug)]
pub struct OutFile {
    path: PathBuf,
    file: File,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// No name yet: killed now, nothing is left.
    Unnamed,
    /// A hidden name beside the real one, where the file system cannot do without.
    Hidden(PathBuf),
    /// A pipe or device, written as it is.
    Direct,
}

impl OutFile {
    /// Begins a file that will be at `path`, replacing what is there.
    pub fn create(path: &Path) -> Result<Self> {
        let made = match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            Ok(meta) if !meta.is_file() => {
                OpenOptions::new().write(true).open(path).map(|f| (f, Way::Direct))
            }
            _ => unnamed(path),
        };
        let (file, way) = made.map_err(|e| local_error("creating", path, &e))?;
        Ok(Self { path: path.to_owned(), file, way })
    }

    /// Gives the file its name; after this it survives a power cut.
    pub fn publish(mut self) -> Result<()> {
        self.name_it().map_err(|e| local_error("writing", &self.path, &e))
    }

    fn name_it(&mut self) -> io::Result<()> {
        if matches!(self.way, Way::Direct) {
            return self.file.flush();
        }
        self.file.sync_all()?;
        if matches!(self.way, Way::Unnamed) {
            let hidden = hidden_name(&self.path);
            let proc = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, proc, CWD, &hidden, AtFlags::SYMLINK_FOLLOW)?;
            self.way = Way::Hidden(hidden);
        }
        if let Way::Hidden(hidden) = &self.way {
            fs::rename(hidden, &self.path)?;
            self.way = Way::Direct;
        }
        File::open(folder_of(&self.path))?.sync_all()
    }
}

/// The files of a pack: the pack itself, and what belongs beside it.
#[derive(Debug)]
pub struct OutFiles {
    path: Option<PathBuf>,
    files: Mutex<Vec<OutFile>>,
}

impl OutFiles {
    /// Files in the working directory, or the first at `path` and the others beside it.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, files: Mutex::default() }
    }

    /// Gives the files their names, the first last; returns where they are, in the order in which they were begun.
    pub fn publish(self) -> Result<Vec<PathBuf>> {
        let files = self.files.into_inner().unwrap_or_else(PoisonError::into_inner);
        let paths = files.iter().map(|file| file.path.clone()).collect();
        files.into_iter().rev().try_for_each(OutFile::publish)?;
        Ok(paths)
    }
}

impl NewFiles for OutFiles {
    fn create(&self, name: &str) -> Result<File> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let path = match &self.path {
            Some(path) if files.is_empty() => path.clone(),
            Some(path) => path.with_file_name(name),
            None => PathBuf::from(name),
        };
        let file = OutFile::create(&path)?;
        let handle = file.file.try_clone().map_err(|e| local_error("opening", &path, &e))?;
        files.push(file);
        Ok(handle)
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if let Way::Hidden(hidden) = &self.way {
            let _ = fs::remove_file(hidden);
        }
    }
}

fn unnamed(path: &Path) -> io::Result<(File, Way)> {
    let mode = Mode::from_raw_mode(0o666);
    match rustix::fs::open(folder_of(path), OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode) {
        Ok(fd) => Ok((File::from(fd), Way::Unnamed)),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let hidden = hidden_name(path);
            let file = OpenOptions::new().write(true).create_new(true).open(&hidden)?;
            Ok((file, Way::Hidden(hidden)))
        }
        Err(error) => Err(error.into()),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn hidden_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder_of(path).join(format!(".{name}.{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_whole_and_replaces_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        for content in ["first", "second"] {
            let mut file = OutFile::create(&path).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            assert_ne!(fs::read_to_string(&path).ok().as_deref(), Some(content));
            file.publish().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        drop(OutFile::create(&dir.path().join("never")).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_and_a_missing_folder_are_refused_and_a_device_is_written() {
        let dir = tempfile::tempdir().unwrap();
        assert!(OutFile::create(dir.path()).is_err());
        let missing = OutFile::create(&dir.path().join("no/such")).unwrap_err();
        assert_eq!(missing.code, tine_model::ErrorCode::NotFound);
        OutFile::create(Path::new("/dev/null")).unwrap().publish().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
