//! The filter: what each system call of the program meets (T38).
//!
//! Sockets of the Internet, and of every family but two, are asked about; so is what gives a socket another end or lets it
//! wait for one. Refused is what makes or uses sockets without a call of that kind, and what reaches into processes that
//! are not held. Calls of other architectures than ours have other numbers, and end the program.

use libc::{c_int, c_long, sock_filter};

/// The filter.
pub fn program() -> Vec<sock_filter> {
    let mut program = vec![
        load(ARCHITECTURE_AT),
        jump(JEQ, ARCHITECTURE, 1, 0),
        give_back(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER_AT),
        // Those of x32 are larger than all of ours.
        jump(JGE, FIRST_FOREIGN, 0, 1),
        give_back(libc::SECCOMP_RET_KILL_PROCESS),
    ];
    for &(call, errno) in REFUSED {
        program.extend(on(call, &[give_back(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs())]));
    }
    for call in [libc::SYS_connect, libc::SYS_listen] {
        program.extend(on(call, &[give_back(libc::SECCOMP_RET_USER_NOTIF)]));
    }
    program.extend(on(
        libc::SYS_socket,
        &[
            load(argument_at(0)),
            jump(JEQ, libc::AF_UNIX.unsigned_abs(), 2, 0),
            jump(JEQ, libc::AF_NETLINK.unsigned_abs(), 1, 0),
            give_back(libc::SECCOMP_RET_USER_NOTIF),
            give_back(libc::SECCOMP_RET_ALLOW),
        ],
    ));
    // Connects without connect(2) (RFC 7413), as no application must rely on being able to.
    for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        let steps = [
            load(argument_at(flags)),
            jump(JSET, libc::MSG_FASTOPEN.unsigned_abs(), 0, 1),
            give_back(libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP.unsigned_abs()),
            give_back(libc::SECCOMP_RET_ALLOW),
        ];
        program.extend(on(call, &steps));
    }
    program.push(give_back(libc::SECCOMP_RET_ALLOW));
    program
}

/// What is done for one call; the last step gives something back. The call's number is loaded, before and after.
fn on(call: c_long, steps: &[sock_filter]) -> Vec<sock_filter> {
    let past = u8::try_from(steps.len()).unwrap_or(u8::MAX);
    let number = u32::try_from(call).unwrap_or(u32::MAX);
    [&[jump(JEQ, number, 0, past)], steps].concat()
}

const fn load(offset: u32) -> sock_filter {
    sock_filter { code: LOAD, jt: 0, jf: 0, k: offset }
}

const fn jump(test: u16, operand: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { code: test, jt: then, jf: otherwise, k: operand }
}

const fn give_back(verdict: u32) -> sock_filter {
    sock_filter { code: RETURN, jt: 0, jf: 0, k: verdict }
}

/// Where the low half of an argument is in struct seccomp_data; what we look at is an int, of which the kernel takes no more.
const fn argument_at(argument: u32) -> u32 {
    16 + 8 * argument
}

/// What has no place here, and what it is told. As on a kernel without io_uring; the others as without privilege.
const REFUSED: &[(c_long, c_int)] = &[
    (libc::SYS_io_uring_setup, libc::ENOSYS),
    (libc::SYS_io_uring_enter, libc::ENOSYS),
    (libc::SYS_io_uring_register, libc::ENOSYS),
    (libc::SYS_ptrace, libc::EPERM),
    (libc::SYS_pidfd_getfd, libc::EPERM),
    (libc::SYS_process_vm_writev, libc::EPERM),
    (libc::SYS_bpf, libc::EPERM),
];

/// Instructions of classic BPF: load a word of the data; compare it; give back a constant (linux/bpf_common.h).
const LOAD: u16 = 0x20;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Members of struct seccomp_data.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

/// The architecture as audit(7) numbers it: 64 bits, little-endian, and the ELF machine.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// The bit of x32's numbers; no other call's are as large.
const FIRST_FOREIGN: u32 = 0x4000_0000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel does.
    fn verdict(architecture: u32, number: c_long, arguments: [u64; 6]) -> u32 {
        let mut data = (number as u32).to_le_bytes().to_vec();
        data.extend(architecture.to_le_bytes());
        data.extend([0; 8]);
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (program, mut at, mut loaded) = (program(), 0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let holds = match code {
                LOAD => {
                    let from = k as usize;
                    loaded = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
                    continue;
                }
                RETURN => return k,
                JEQ => loaded == k,
                JGE => loaded >= k,
                JSET => loaded & k != 0,
                other => panic!("{other:#x} is no instruction"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    fn of(number: c_long, arguments: &[c_int]) -> u32 {
        let mut all = [0; 6];
        for (place, argument) in all.iter_mut().zip(arguments) {
            // What lies in the upper half is not looked at by the kernel either.
            *place = 0xdead_beef_0000_0000 | u64::from(argument.unsigned_abs());
        }
        verdict(ARCHITECTURE, number, all)
    }

    /// T38: every family is asked about but the two that lead to no network, whatever lies in the argument's upper half.
    #[test]
    fn t38_sockets_are_asked_about_by_family() {
        for family in 0..64 {
            let free = [libc::AF_UNIX, libc::AF_NETLINK].contains(&family);
            let expected = if free { libc::SECCOMP_RET_ALLOW } else { libc::SECCOMP_RET_USER_NOTIF };
            assert_eq!(of(libc::SYS_socket, &[family, libc::SOCK_STREAM, 0]), expected, "family {family}");
        }
        assert_eq!(of(libc::SYS_connect, &[3]), libc::SECCOMP_RET_USER_NOTIF);
        assert_eq!(of(libc::SYS_listen, &[3]), libc::SECCOMP_RET_USER_NOTIF);
    }

    /// T38: what gets around the calls that are asked about is refused.
    #[test]
    fn t38_ways_around_are_refused() {
        let errno = |errno: c_int| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
        for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
            assert_eq!(of(call, &[]), errno(libc::ENOSYS));
        }
        for call in [libc::SYS_ptrace, libc::SYS_pidfd_getfd, libc::SYS_process_vm_writev, libc::SYS_bpf] {
            assert_eq!(of(call, &[]), errno(libc::EPERM));
        }
        for (call, before) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
            let with = |flags: c_int| [vec![3; before], vec![flags]].concat();
            assert_eq!(of(call, &with(libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL)), errno(libc::EOPNOTSUPP));
            assert_eq!(of(call, &with(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)), libc::SECCOMP_RET_ALLOW);
        }
    }

    /// T38: a call by another architecture's numbers ends the program, and all else passes.
    #[test]
    fn t38_foreign_numbers_end_the_program() {
        let i386 = 0x4000_0003;
        assert_eq!(verdict(i386, 359, [2, 1, 0, 0, 0, 0]), libc::SECCOMP_RET_KILL_PROCESS);
        let x32 = c_long::from(FIRST_FOREIGN) | libc::SYS_socket;
        assert_eq!(verdict(ARCHITECTURE, x32, [2, 1, 0, 0, 0, 0]), libc::SECCOMP_RET_KILL_PROCESS);
        for call in [libc::SYS_read, libc::SYS_execve, libc::SYS_socketpair, libc::SYS_accept4, 460] {
            assert_eq!(of(call, &[2; 6]), libc::SECCOMP_RET_ALLOW, "{call}");
        }
    }
}
