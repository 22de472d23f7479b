//! Bytes and file descriptors over Unix sockets, and sockets at paths longer than their address allows.
//!
//! Knows nothing of messages.

use crate::error::{SysError, SysResult};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    },
};
use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

/// At most so many descriptors travel in one message.
pub const MAX_FDS: usize = 4;

/// Sends bytes with descriptors; both arrive together or not at all, though the bytes maybe only in part. Returns
/// how many were sent. Never raises SIGPIPE.
///
/// # Errors
/// The kernel's; EAGAIN when a non-blocking socket is full.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> SysResult<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let err = |e: Errno| SysError::new("send to", "socket", e);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(err(Errno::TOOBIG));
    }
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other.map_err(err),
        }
    }
}

/// Receives bytes and whatever descriptors come with them; those are closed on exec. Zero bytes: the other side has
/// closed. Descriptors beyond [`MAX_FDS`] are closed by the kernel.
///
/// # Errors
/// The kernel's; EAGAIN when a non-blocking socket has nothing.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> SysResult<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(Errno::INTR) => {}
            other => break other.map_err(|e| SysError::new("receive from", "socket", e))?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            fds.extend(passed);
        }
    }
    Ok(received.bytes)
}

/// Listens at `name` in the directory `dir`, whatever lay there before being removed. The socket is root's alone and
/// does not block.
///
/// # Errors
/// The kernel's.
pub fn listen_at(dir: BorrowedFd<'_>, name: &str) -> SysResult<OwnedFd> {
    let err = |e: Errno| SysError::new("listen at", name, e);
    match rustix::fs::unlinkat(dir, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(err(error)),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(err)?;
    // The mode of the descriptor becomes the mode of the file that bind makes.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600)).map_err(err)?;
    rustix::net::bind(&socket, &address_in(dir, name).map_err(err)?).map_err(err)?;
    rustix::net::listen(&socket, 128).map_err(err)?;
    Ok(socket)
}

/// Connects to the socket `name` in the directory `dir`.
///
/// # Errors
/// The kernel's: ENOENT or ECONNREFUSED when nobody listens there.
pub fn connect_at(dir: BorrowedFd<'_>, name: &str) -> SysResult<OwnedFd> {
    let err = |e: Errno| SysError::new("connect to", name, e);
    let flags = SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(err)?;
    rustix::net::connect(&socket, &address_in(dir, name).map_err(err)?).map_err(err)?;
    Ok(socket)
}

/// Takes the next connection; none when there is none at the moment. It does not block.
///
/// # Errors
/// The kernel's.
pub fn accept(listener: BorrowedFd<'_>) -> SysResult<Option<OwnedFd>> {
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(SysError::new("accept", "connection", error)),
    }
}

/// A socket's address holds at most 108 bytes; by way of the directory's descriptor any path fits.
fn address_in(dir: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn bytes_and_descriptors_arrive_together_at_a_very_long_path() {
        let name = format!("tine-fdpass-{}", std::process::id());
        let top = std::env::temp_dir().join(name);
        let dir = top.join("d".repeat(150));
        std::fs::create_dir_all(&dir).unwrap();
        let handle = std::fs::File::open(&dir).unwrap();
        drop(listen_at(handle.as_fd(), "s").unwrap());
        let listener = listen_at(handle.as_fd(), "s").unwrap();
        assert!(accept(listener.as_fd()).unwrap().is_none());
        let client = connect_at(handle.as_fd(), "s").unwrap();
        let server = accept(listener.as_fd()).unwrap().unwrap();
        send(client.as_fd(), b"hello", &[handle.as_fd()]).unwrap();
        let (mut buffer, mut fds) = ([0; 16], Vec::new());
        assert_eq!(receive(server.as_fd(), &mut buffer, &mut fds).unwrap(), 5);
        assert_eq!((&buffer[..5], fds.len()), (&b"hello"[..], 1));
        drop(client);
        assert_eq!(receive(server.as_fd(), &mut buffer, &mut fds).unwrap(), 0);
        std::fs::remove_dir_all(top).unwrap();
    }
}
