//! Making a box's tap device, also where a killed box's stands in the way.

use super::{dial::Dial, error::NetError};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use tine_sys::{SysError, tap::open_tap};

/// Makes the tap device `name`, down and not plugged in. A device that has the name is replaced: it is what a box
/// has left that was killed, and some process still holds it.
pub fn open(dial: &mut Dial, name: &str) -> Result<OwnedFd, NetError> {
    match open_tap(name) {
        Err(e) if e.errno() == Errno::BUSY.raw_os_error() => {
            dial.delete_link(name)?;
            open_tap(name)
        }
        other => other,
    }
    .map_err(|source| error(name, source))
}

fn error(name: &str, source: SysError) -> NetError {
    let lacking = [Errno::NOENT, Errno::NODEV, Errno::NXIO].map(Errno::raw_os_error);
    if lacking.contains(&source.errno()) {
        return NetError::NoTap { source };
    }
    NetError::io("create tap device", name)(source.source)
}
