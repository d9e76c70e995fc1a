//! System calls: those that a running gateway makes, found by watching one, and no others.
//!
//! Two filters, of which the kernel obeys the stricter. What only an intruder would call ends the process, and with it
//! the traffic. What else is not on the list fails as on a kernel that does not know it, so that libraries fall back to
//! what they did before it was there.

use std::collections::BTreeMap;
use std::env;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};

/// Installs both filters, for good.
pub(super) fn filter() -> Result<(), Error> {
    let arch = TargetArch::try_from(env::consts::ARCH).map_err(Error::Backend)?;
    let (deadly, narrow) = programs(arch).map_err(Error::Backend)?;
    apply_filter_all_threads(&deadly)?;
    apply_filter_all_threads(&narrow)
}

fn programs(arch: TargetArch) -> Result<(BpfProgram, BpfProgram), BackendError> {
    let mut deadly: BTreeMap<_, _> = DEADLY.iter().map(|&call| (call, Vec::new())).collect();
    // A process is a clone that is no thread.
    deadly.insert(libc::SYS_clone, vec![masked(0, libc::CLONE_THREAD, 0)?]);
    let deadly = SeccompFilter::new(deadly, SeccompAction::Allow, SeccompAction::KillProcess, arch)?;
    let mut allowed: BTreeMap<_, _> = ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    allowed.extend(narrow()?);
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let narrow = SeccompFilter::new(allowed, unknown, SeccompAction::Allow, arch)?;
    Ok((BpfProgram::try_from(deadly)?, BpfProgram::try_from(narrow)?))
}

/// Calls that are allowed with some arguments.
fn narrow() -> Result<[(i64, Vec<SeccompRule>); 8], BackendError> {
    let any_of = |argument, values: &[u64]| {
        let equal = |&value| rule(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
        values.iter().map(equal).collect::<Result<Vec<_>, _>>()
    };
    Ok([
        (libc::SYS_clone, vec![masked(0, libc::CLONE_THREAD, libc::CLONE_THREAD)?]),
        // No memory becomes a program.
        (libc::SYS_mmap, vec![masked(2, libc::PROT_EXEC, 0)?]),
        (libc::SYS_mprotect, vec![masked(2, libc::PROT_EXEC, 0)?]),
        // Sockets towards networks are open already.
        (libc::SYS_socket, any_of(0, &SOCKETS)?),
        (libc::SYS_ioctl, any_of(1, &IOCTLS)?),
        (libc::SYS_prctl, any_of(0, &PRCTLS)?),
        // An abort signals a thread of its own process.
        (libc::SYS_tgkill, any_of(0, &[u64::from(std::process::id())])?),
        // Limits are read, not set.
        (libc::SYS_prlimit64, vec![rule(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?]),
    ])
}

fn masked(argument: u8, mask: libc::c_int, value: libc::c_int) -> Result<SeccompRule, BackendError> {
    let unsigned = |bits: libc::c_int| u64::from(bits.unsigned_abs());
    let op = SeccompCmpOp::MaskedEq(unsigned(mask));
    rule(argument, SeccompCmpArgLen::Qword, op, unsigned(value))
}

fn rule(
    argument: u8,
    width: SeccompCmpArgLen,
    op: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, width, op, value)?])
}

/// Domains of sockets: control.sock and systemd's; sock_diag, routes and nf_tables.
const SOCKETS: [u64; 2] = [libc::AF_UNIX as u64, libc::AF_NETLINK as u64];

/// Non-blocking, close on exec, and whether standard error is a terminal.
const IOCTLS: [u64; 4] = [libc::FIONBIO, libc::FIOCLEX, libc::TCGETS, libc::TIOCGWINSZ];

/// Names of threads and of memory.
const PRCTLS: [u64; 2] = [libc::PR_SET_NAME as u64, libc::PR_SET_VMA as u64];

/// Programs and processes, other processes' memory, mounts and namespaces, users and capabilities, the kernel's own
/// programs and modules, keys of the kernel, the clock, and the ways around a filter.
const DEADLY: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_personality,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Memory, threads and signals, time, files, waiting, sockets, and who we are.
const ALLOWED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_membarrier,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_umask,
    libc::SYS_getcwd,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_pidfd_open,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrusage,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getrlimit,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_allowed_and_deadly_or_named_twice() {
        let narrow: Vec<_> = narrow().unwrap().into_iter().map(|(call, _)| call).collect();
        let mut calls = [ALLOWED, DEADLY, &narrow].concat();
        let named = calls.len();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), named);
    }

    #[test]
    fn both_filters_are_programs_on_each_architecture() {
        for arch in [TargetArch::x86_64, TargetArch::aarch64] {
            let (deadly, narrow) = programs(arch).unwrap();
            assert!(deadly.len() > DEADLY.len() && narrow.len() > ALLOWED.len() && narrow.len() < 4096);
        }
    }
}
