//! Refuses connections of builds. A fixed-output build has the machine's network, and so reaches this server's ports; but it is
//! neither a client, nor a builder, nor a proxy.
//!
//! The kernel knows who has opened the other end of a connection on this machine (`sock_diag(7)`).

use std::{
    fs,
    io::{self, Read},
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpStream, task::block_in_place};

use crate::build_users::BuildUsers;

// Linux's numbers: `linux/netlink.h`, `linux/sock_diag.h`, `netinet/tcp.h`.
const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const ENOENT: i32 = 2;
const TCP_LISTEN: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// The length of a request, in bytes: `struct nlmsghdr` and `struct inet_diag_req_v2`.
const REQUEST: u32 = 72;
/// Where `struct inet_diag_msg` has the user in an answer, after `struct nlmsghdr`.
const USER: usize = 80;
/// How long the kernel may take: it answers at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// The user who has opened it.
    user: u32,
    /// Its number; 0 if no process has it any more.
    inode: u32,
}

/// Tells builds from clients.
#[derive(Clone, Debug)]
pub(crate) struct Peers(BuildUsers);

impl Peers {
    /// For builds of these users.
    ///
    /// # Errors
    /// The operating system's, if this kernel does not know who has opened a connection.
    pub(crate) fn new(users: BuildUsers) -> io::Result<Peers> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        end(nowhere, nowhere).map(|_| Peers(users))
    }

    /// Whether a connection is, or may be, of a build; `peer` is its other end. A client waits for its answer, so an end on this
    /// machine that no process has any more may have been a build's. Takes some microseconds, and some milliseconds if builds
    /// share their user.
    pub(crate) fn is_build(&self, connection: &TcpStream, peer: SocketAddr) -> bool {
        match (connection.local_addr().and_then(|own| end(peer, own)), &self.0) {
            (Ok(Some(End { inode: 0, .. })), _) => true,
            (Ok(Some(end)), BuildUsers::Own(users)) => users.iter().any(|users| users.contains(&end.user)),
            (Ok(Some(end)), BuildUsers::Shared(user)) => end.user == *user && !block_in_place(|| is_held(end.inode)),
            (Ok(None) | Err(_), _) => is_of_this_machine(peer),
        }
    }
}

/// The end `peer` of a connection to `own`, if it is on this machine.
fn end(peer: SocketAddr, own: SocketAddr) -> io::Result<Option<End>> {
    let address = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => (2, [&ip.octets()[..], &[0; 12]].concat()),
        IpAddr::V6(ip) => (10, ip.octets().to_vec()),
    };
    let ((family, from), (_, to)) = (address(peer.ip()), address(own.ip()));
    let request = [
        // The header, without a sequence number and a port.
        &REQUEST.to_ne_bytes()[..],
        &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
        &NLM_F_REQUEST.to_ne_bytes(),
        &[0; 8],
        // Without extensions, in any state.
        &[family, IPPROTO_TCP, 0, 0],
        &u32::MAX.to_ne_bytes(),
        // The socket, of any interface and with any cookie.
        &peer.port().to_be_bytes(),
        &own.port().to_be_bytes(),
        &from,
        &to,
        &[0; 4],
        &[0xff; 8],
    ];
    let mut socket = Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(&request.concat())?;
    let mut answer = [0; 512];
    let length = socket.read(&mut answer)?;
    let word = |at: usize| match answer[..length].get(at..at + 4) {
        Some(&[a, b, c, d]) => Ok(u32::from_ne_bytes([a, b, c, d])),
        _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    };
    if answer[4..6] == NLMSG_ERROR.to_ne_bytes() {
        let error = word(16)?.cast_signed().wrapping_neg();
        return if error == ENOENT { Ok(None) } else { Err(io::Error::from_raw_os_error(error)) };
    }
    let found = End { user: word(USER)?, inode: word(USER + 4)? };
    // Without such a connection, the kernel has found who listens there.
    Ok((answer[17] != TCP_LISTEN).then_some(found))
}

/// Whether an address is one of this machine's, so that a socket can have it.
fn is_of_this_machine(mut peer: SocketAddr) -> bool {
    peer.set_ip(peer.ip().to_canonical());
    peer.set_port(0);
    UdpSocket::bind(peer).is_ok()
}

/// Whether a process has that socket which is in no sandbox: a sandbox has process ids of its own.
fn is_held(inode: u32) -> bool {
    let socket = PathBuf::from(format!("socket:[{inode}]"));
    let ids = |process: &str| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
    let (own, all) = (ids("self"), fs::read_dir("/proc").into_iter().flatten().flatten());
    let processes = all.filter_map(|process| process.file_name().into_string().ok());
    own.is_some()
        && processes.filter(|process| ids(process) == own).any(|process| {
            let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
            files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file == socket)
        })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::process::geteuid;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_of_a_build_is_told_from_one_of_a_client() {
        let me = geteuid().as_raw();
        let of = |users| Peers::new(users).expect("a kernel with INET_DIAG");
        let only = |users| BuildUsers::Own(std::iter::once(users).collect());
        let (own, other) = (of(only(me..me + 1)), of(only(me + 1..u32::MAX)));
        let shared = of(BuildUsers::Shared(me));
        for (listen, connect) in [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::1]:0", "::1")] {
            let listener = TcpListener::bind(listen).await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let client = TcpStream::connect((connect, port)).await.expect("a connection");
            let (accepted, peer) = listener.accept().await.expect("a connection");
            let told = || [&own, &other, &shared].map(|peers| peers.is_build(&accepted, peer));
            assert_eq!(told(), [true, false, false], "{listen}");
            // An end that no process has is no client's.
            drop(client);
            assert_eq!(told(), [true; 3], "{listen}");

            // As Nix's sandbox: process ids of its own. It waits until its input ends.
            let asks = format!("exec 3<> /dev/tcp/{connect}/{port}; read");
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--pid", "--fork", "bash", "-c", &asks]).stdin(Stdio::piped());
            let mut sandbox = command.spawn().expect("unshare");
            let (accepted, peer) = listener.accept().await.expect("a connection");
            let told = [&own, &other, &shared].map(|peers| peers.is_build(&accepted, peer));
            assert_eq!(told, [true, false, true], "{listen}");
            drop(sandbox.stdin.take());
            sandbox.wait().expect("it ends");

            // A connection of another machine has no end here.
            let gone: SocketAddr = "192.0.2.1:9".parse().expect("an address");
            assert!(!own.is_build(&accepted, gone) && own.is_build(&accepted, peer), "{listen}");
        }
    }
}
