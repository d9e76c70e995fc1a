//! `latchway capture`: packets on both sides of the transform, into a file that Wireshark opens.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use clap::ValueHint;
use latchway_control::{CaptureSpec, CapturedPacket, CapturedPackets, CapturedVerdict, SideSpec};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::cli::ask::connect;
use crate::cli::change::words;
use crate::cli::failure::Failure;
use crate::client::CallError;

/// What `latchway capture` is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where to write; `-` is standard output, as for `wireshark -k -i -`.
    #[arg(short = 'w', long = "write", value_name = "FILE", value_hint = ValueHint::FilePath)]
    write: PathBuf,
    /// Only on one side: `inner` (in the clear) or `wire`.
    #[arg(long, value_name = "SIDE", value_parser = words(SideSpec::ALL, SideSpec::name))]
    side: Option<SideSpec>,
    /// Only packets that are dropped.
    #[arg(long)]
    dropped: bool,
    /// At most so many octets of each packet.
    #[arg(short = 's', long, value_name = "OCTETS", default_value_t = CaptureSpec::default().snap_len)]
    snap_len: u32,
    /// End after so many packets.
    #[arg(short = 'c', long, value_name = "PACKETS")]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// Writes packets until there are enough, the time is over, the gateway ends or a signal comes.
///
/// # Errors
/// [`Failure`]
pub fn run(control: Option<&Path>, options: &Options) -> Result<ExitCode, Failure> {
    let mut client = connect(control)?;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, std::sync::Arc::clone(&stop))
            .map_err(|error| Failure::new(format!("cannot wait for signals: {error}"), "try again"))?;
    }
    let wanted = CaptureSpec { side: options.side, dropped: options.dropped, snap_len: options.snap_len };
    let end = options.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut file: Option<PacketFile> = None;
    for answer in client.follow(&wanted)? {
        let CapturedPackets { packets, lost } = match answer {
            Ok(answer) => answer,
            // The gateway ended, and with it what there was to see.
            Err(CallError::Closed { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        // Made only now: a refused capture leaves a file of before alone.
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(PacketFile::create(&options.write, options.snap_len)?),
        };
        file.write(&packets, lost, options.count)?;
        let enough = options.count.is_some_and(|count| file.written >= count);
        if enough
            || stop.load(std::sync::atomic::Ordering::Relaxed)
            || end.is_some_and(|end| Instant::now() >= end)
        {
            break;
        }
    }
    let (written, lost) = file.map_or((0, 0), |file| (file.written, file.lost));
    anstream::eprintln!("{written} packets captured, {lost} lost because they came too fast");
    Ok(ExitCode::SUCCESS)
}

/// A pcapng file with an interface for each side.
struct PacketFile {
    writer: PcapNgWriter<BufWriter<Box<dyn Write>>>,
    written: u64,
    lost: u64,
    /// How many were lost since the last packet, to be said with the next.
    gap: u64,
}

impl PacketFile {
    fn create(path: &Path, snap_len: u32) -> Result<Self, Failure> {
        let opened: io::Result<Box<dyn Write>> = if path.as_os_str() == "-" {
            Ok(Box::new(io::stdout()))
        } else {
            File::create(path).map(|file| Box::new(file) as Box<dyn Write>)
        };
        let out = opened.map_err(|error| {
            Failure::new(format!("cannot write {}: {error}", path.display()), "name a file that can be made")
        })?;
        let mut writer = PcapNgWriter::new(BufWriter::new(out)).map_err(unwritten)?;
        for side in SideSpec::ALL {
            let mut interface = InterfaceDescriptionBlock::new(DataLink::RAW, snap_len);
            interface.options = vec![
                InterfaceDescriptionOption::IfName(side.name().into()),
                InterfaceDescriptionOption::IfDescription(described(*side).into()),
                // Nanoseconds.
                InterfaceDescriptionOption::IfTsResol(9),
            ];
            writer.write_pcapng_block(interface).map_err(unwritten)?;
        }
        let mut file = Self { writer, written: 0, lost: 0, gap: 0 };
        file.flush()?;
        Ok(file)
    }

    fn write(&mut self, packets: &[CapturedPacket], lost: u64, most: Option<u64>) -> Result<(), Failure> {
        self.lost += lost;
        self.gap += lost;
        for packet in packets {
            if most.is_some_and(|most| self.written >= most) {
                break;
            }
            self.write_one(packet)?;
        }
        self.flush()
    }

    fn write_one(&mut self, packet: &CapturedPacket) -> Result<(), Failure> {
        let octets = Base64::decode_vec(&packet.octets).map_err(|error| {
            Failure::new(
                format!("the gateway said what is no packet: {error}"),
                "use the same version for both",
            )
        })?;
        let mut options = vec![EnhancedPacketOption::Comment(comment(packet).into())];
        if self.gap > 0 {
            options.push(EnhancedPacketOption::DropCount(std::mem::take(&mut self.gap)));
        }
        let block = EnhancedPacketBlock {
            interface_id: if packet.side == SideSpec::Inner { 0 } else { 1 },
            timestamp: Duration::from_nanos(packet.time),
            original_len: packet.len,
            data: octets.into(),
            options,
        };
        self.writer.write_pcapng_block(block).map_err(unwritten)?;
        self.written += 1;
        Ok(())
    }

    /// Everything is there for whoever reads along.
    fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.writer.get_mut().flush()?)
    }
}

/// What the gateway thought of a packet, in one line.
fn comment(packet: &CapturedPacket) -> String {
    let mut said = format!("latchway: {} {}", packet.direction.name(), packet.verdict);
    if let Some(reason) = packet.reason.as_deref().filter(|_| packet.verdict == CapturedVerdict::Dropped) {
        said += &format!(" ({reason})");
    }
    if let Some(spi) = packet.spi {
        said += &format!(", SPI 0x{spi:08x}");
    }
    if let (Some(class), Some((slot, generation))) = (packet.class, packet.sa) {
        said += &format!(", tag class {class} sa {slot}.{generation}");
    }
    said
}

const fn described(side: SideSpec) -> &'static str {
    match side {
        SideSpec::Inner => "in the clear, towards the inner hosts",
        SideSpec::Wire => "as it is on the wire, towards the peers",
    }
}

fn unwritten(error: PcapError) -> Failure {
    match error {
        PcapError::IoError(error) => error.into(),
        other => Failure::new(format!("the file cannot be written: {other}"), "report it"),
    }
}
