//! A wire between meshscope and PostgreSQL that can be cut, held up and slowed down, at a byte that the test chooses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use meshscope::store::Config;
use meshscope::units::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// No byte is counted down to.
const NEVER: i64 = i64::MAX / 2;

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Passes everything on.
    Whole,
    /// Connections end, and new ones end at once: the server is stopped.
    Down,
    /// Connections stand, and nothing comes through: a hung server, a lost route.
    Stalled,
    /// Each piece of up to 16 KiB to the server takes this long: a slow disk.
    Slow(Duration),
}

/// The wire. Ends with the test.
pub struct Chaos {
    shared: Arc<Shared>,
}

struct Shared {
    wire: watch::Sender<Wire>,
    /// Bytes to the server until the connection that sends the last of them is cut.
    left: AtomicI64,
    cuts: watch::Sender<u64>,
    sent: AtomicU64,
}

impl Chaos {
    /// A wire to that database of the tests' server, and the configuration that goes over it.
    pub async fn before(direct: &Config) -> (Self, Config) {
        let url = direct.database_url.as_ref().expect("an address").reveal().to_owned();
        let (rest, folder) = url.split_once("?host=").expect("a socket");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let name = rest.rsplit('/').next().expect("a name");
        let through = format!("postgres://postgres@{address}/{name}?sslmode=disable");
        let shared = Arc::new(Shared {
            wire: watch::channel(Wire::Whole).0,
            left: AtomicI64::new(NEVER),
            cuts: watch::channel(0).0,
            sent: AtomicU64::new(0),
        });
        tokio::spawn(accept(listener, PathBuf::from(folder).join(".s.PGSQL.5432"), Arc::clone(&shared)));
        (Self { shared }, Config { database_url: Some(Secret::from(through)), ..direct.clone() })
    }

    pub fn set(&self, wire: Wire) {
        self.shared.wire.send_replace(wire);
    }

    /// Cuts the connection that sends the byte of that number from now on; the others stay.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.left.store(bytes as i64, SeqCst);
    }

    pub fn cut_no_more(&self) {
        self.shared.left.store(NEVER, SeqCst);
    }

    /// How many connections were cut by [`Chaos::cut_after`].
    pub fn cuts(&self) -> watch::Receiver<u64> {
        self.shared.cuts.subscribe()
    }

    /// Bytes that the server was sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(SeqCst)
    }
}

async fn accept(listener: TcpListener, socket: PathBuf, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let (socket, shared) = (socket.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let mut wire = shared.wire.subscribe();
            if *wire.borrow() == Wire::Down {
                return;
            }
            let server = UnixStream::connect(socket).await.expect("the server is there");
            let went_down = async {
                let _ = wire.wait_for(|wire| *wire == Wire::Down).await;
            };
            tokio::select! {
                () = pump(client, server, &shared) => {}
                () = went_down => {}
            }
        });
    }
}

/// Until one side ends or the wire is cut. Dropping both sides without a farewell is what a crash looks like.
async fn pump(client: TcpStream, server: UnixStream, shared: &Shared) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            held_up(shared).await;
            let left = shared.left.fetch_sub(count as i64, SeqCst);
            let part = usize::try_from(left.clamp(0, count as i64)).expect("a length");
            shared.sent.fetch_add(part as u64, SeqCst);
            if to_server.write_all(&buffer[..part]).await.is_err() {
                return;
            }
            if part < count {
                shared.left.store(NEVER, SeqCst);
                shared.cuts.send_modify(|cuts| *cuts += 1);
                return;
            }
        }
    };
    let back = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            stalled(shared).await;
            if to_client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

async fn stalled(shared: &Shared) {
    let _ = shared.wire.subscribe().wait_for(|wire| *wire != Wire::Stalled).await;
}

async fn held_up(shared: &Shared) {
    stalled(shared).await;
    let wire = *shared.wire.borrow();
    if let Wire::Slow(pause) = wire {
        tokio::time::sleep(pause).await;
    }
}
