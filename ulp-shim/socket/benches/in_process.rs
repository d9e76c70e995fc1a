//! How much two gateways in one program carry between them over the loopback, each in its own thread: TCP, and datagrams with
//! their tags.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement ends where something is not as it should be"
)]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use latchway_socket::in_process::{Builder, Gateway, Pair, Peer, Sa, TcpListener, TcpStream, UdpSocket};
use latchway_socket::{DatagramTag, Requirement};

/// Octets that one TCP transfer carries.
const TRANSFER: usize = 4 * 1024 * 1024;
/// The longest packet inside: with what is around it, one of a usual Ethernet.
const MTU: u16 = 1376;

fn gateway(us: u8, them: u8) -> Gateway {
    let name = |host: u8| format!("host{host}.example").parse().unwrap();
    let peer = Peer::new(name(them)).inner(format!("10.{them}.0.0/24").parse().unwrap());
    let builder = Builder::new(name(us), "127.0.0.1:0".parse().unwrap()).mtu(MTU).buffers(1024 * 1024);
    builder.address([10, us, 0, 1].into()).peer(peer).start().unwrap()
}

/// Hosts 1 and 2, with SAs between them.
fn two() -> [Gateway; 2] {
    let gateways = [gateway(1, 2), gateway(2, 1)];
    let sa = |spi: u32, first: u8| Sa::new(spi, &(0..20).map(|octet| octet ^ first).collect::<Vec<u8>>());
    let (there, back) = (sa(0x1001, 0x40), sa(0x1002, 0x80));
    let pair = |inbound: &Sa, outbound: &Sa, to| {
        Pair::new("aes-128-gcm", inbound.clone(), outbound.clone(), to).ephemeral()
    };
    let [one, two] = &gateways;
    one.install(&"host2.example".parse().unwrap(), &pair(&back, &there, two.local())).unwrap();
    two.install(&"host1.example".parse().unwrap(), &pair(&there, &back, one.local())).unwrap();
    gateways
}

fn tcp(criterion: &mut Criterion) {
    let [one, two] = two();
    let at: SocketAddr = "10.2.0.1:9".parse().unwrap();
    let listener = TcpListener::bind(&two, at, &Requirement::new()).unwrap();
    let (stream, _) = TcpStream::connect(&one, at, &Requirement::new()).unwrap();
    let (mut there, ..) = listener.accept().unwrap();
    // For each transfer, one octet says that it came.
    let receiving = thread::spawn(move || {
        let (mut room, mut left) = (vec![0; 256 * 1024], TRANSFER);
        while let Ok(len @ 1..) = there.read(&mut room) {
            left -= len;
            if left == 0 {
                there.write_all(b"!").unwrap();
                left = TRANSFER;
            }
        }
    });
    let block = vec![0x5a; TRANSFER];
    let mut group = criterion.benchmark_group("in-process");
    group.sample_size(10).throughput(Throughput::Bytes(TRANSFER as u64));
    group.bench_function("tcp", |bencher| {
        bencher.iter(|| {
            (&stream).write_all(&block).unwrap();
            (&stream).read_exact(&mut [0]).unwrap();
        });
    });
    group.finish();
    drop(stream);
    receiving.join().unwrap();
}

fn udp(criterion: &mut Criterion) {
    let [one, two] = two();
    let at: SocketAddr = "10.2.0.1:9".parse().unwrap();
    let (here, there) =
        (UdpSocket::bind(&one, "10.1.0.1:0".parse().unwrap()).unwrap(), UdpSocket::bind(&two, at).unwrap());
    let mut room = [0; 1500];
    let mut group = criterion.benchmark_group("in-process");
    group.sample_size(10).throughput(Throughput::Elements(1));
    group.bench_function("datagram there with its tag, and back", |bencher| {
        bencher.iter(|| {
            here.send_to(&[0; 1200], at, None).unwrap();
            let (len, from, tag) = there.recv_from_within(&mut room, Duration::from_secs(5)).unwrap();
            assert!(matches!(tag, DatagramTag::Certain(_)));
            there.send_to(&room[..len], from, None).unwrap();
            here.recv_from_within(&mut room, Duration::from_secs(5)).unwrap().0
        });
    });
    group.finish();
}

criterion_group!(benches, tcp, udp);
criterion_main!(benches);
