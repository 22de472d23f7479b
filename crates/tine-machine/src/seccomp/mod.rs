//! The seccomp filters of a box's programs.
//!
//! Three filters are stacked, and the stricter answer counts: the first lets only known calls through, the second
//! refuses the dangerous ones, some of them by their arguments, the third hides what the file system can do beyond
//! files. Programs of another architecture (32 bit) are killed by each.

mod tables;

use crate::error::{MachineError, MachineResult};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::collections::BTreeMap;
use tables::{ALLOWED, NO_SUCH_IOCTL, REFUSED};
use tine_sys::process::BpfInstruction;

/// Conditions under which a call matches: any of the rules, or always when there is none.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Namespaces that a program may not make by clone(2).
const NEW_NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Arguments of personality(2) that are allowed: Linux and 32-bit Linux, each plain, with UNAME26 or without address
/// randomisation, and the query.
const PERSONALITIES: [u64; 7] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0x4_0000, 0x4_0008, 0xffff_ffff];

/// The compiled filters, in the order in which they are to be installed.
pub(crate) fn filters() -> MachineResult<Vec<Vec<BpfInstruction>>> {
    let build = || -> Result<[BpfProgram; 3], seccompiler::BackendError> {
        let allowed = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
        Ok([
            compile(allowed, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow)?,
            compile(refusals()?, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))?,
            compile(hidden()?, SeccompAction::Allow, SeccompAction::Errno(libc::ENOTTY as u32))?,
        ])
    };
    let programs = build().map_err(|e| MachineError::Start(format!("seccomp filter: {e}")))?;
    Ok(programs.iter().map(instructions).collect())
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    on_match: SeccompAction,
) -> Result<BpfProgram, seccompiler::BackendError> {
    SeccompFilter::new(rules, otherwise, on_match, TargetArch::x86_64)?.try_into()
}

fn refusals() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let namespaces = NEW_NAMESPACES.iter().map(|flag| {
        let flag = *flag as u64;
        SeccompRule::new(vec![argument(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?])
    });
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    let odd = PERSONALITIES.iter().map(|p| argument(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *p));
    rules.insert(libc::SYS_personality, vec![SeccompRule::new(odd.collect::<Result<_, _>>()?)?]);
    // A socket of this family reaches the host past every network namespace.
    let vsock = argument(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::AF_VSOCK as u64)?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![vsock])?]);
    // Typing into a terminal as if one were its user.
    let typing = argument(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::TIOCSTI)?;
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![typing])?]);
    Ok(rules)
}

/// ENOTTY is what other file systems answer, and programs fall back to plain directories.
fn hidden() -> Result<Rules, seccompiler::BackendError> {
    let rule = |request: &u64| {
        SeccompRule::new(vec![argument(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *request)?])
    };
    let rules: Result<Vec<_>, _> = NO_SUCH_IOCTL.iter().map(rule).collect();
    Ok(BTreeMap::from([(libc::SYS_ioctl, rules?)]))
}

fn argument(
    index: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(index, length, operator, value)
}

fn instructions(program: &BpfProgram) -> Vec<BpfInstruction> {
    program.iter().map(|i| BpfInstruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_ordinary_and_refused_and_the_filters_fit() {
        assert!(ALLOWED.iter().all(|call| !REFUSED.contains(call)));
        assert!(!ALLOWED.contains(&libc::SYS_clone3));
        let filters = filters().unwrap();
        assert_eq!(filters.len(), 3);
        assert!(
            filters.iter().all(|f| f.len() < 4096),
            "{:?}",
            filters.iter().map(Vec::len).collect::<Vec<_>>()
        );
    }
}
