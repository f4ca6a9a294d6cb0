//! The life of one connection through the proxy.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::server::{Accepted, Acceptor};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConnection, ServerConnection, SignatureScheme};

use super::door::{Expected, Guest, Guide};
use super::ends::End;
use super::relay::relay;
use super::telling::Telling;
use super::{Ask, MAX_NAMES, Shared, Tunnel, lock};
use crate::observation::{Direction, Tid};
use crate::source::{Opaque, Unwanted};

/// How long a destination may take to answer before its client has to try for itself. It stands still meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same where its client is connected to us already, and has no try of its own.
const OWN_PATIENCE: Duration = Duration::from_secs(120);
/// How long who asked for a tunnel may take to come through it, which is under way when we hear of it.
const ARRIVAL_MS: u16 = 10_000;
/// How long either side may take for a step of its handshake.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// Longest head of a request to another proxy, or of its answer.
const MAX_HEAD: usize = 16 << 10;
/// Longest ClientHello that is waited for: its length has 16 bits, in more than one record.
const MAX_HELLO: usize = 80 << 10;

/// Takes a connection to its destination, and back.
pub(super) fn run(number: u32, ask: Ask, shared: &Shared) {
    let Ask { destination, process, answer } = ask;
    let opened = TcpStream::connect_timeout(&destination, PATIENCE)
        .and_then(|server| Ok((server, listen(destination)?)))
        .and_then(|(server, listener)| Ok((server, listener.local_addr()?, listener)));
    let Ok((server, address, listener)) = opened else { return answer(None) };
    let unwanted = Unwanted::default();
    let mut telling = Telling::new(shared, number, unwanted.clone());
    let (connected, port) = mpsc::channel();
    answer(Some(Tunnel { number, address, unwanted, connected }));
    let Ok(port) = port.recv() else { return };
    let route = Route { destination, process, shared, server, asked: Vec::new() };
    let result = accept(&listener, port).and_then(|client| {
        drop(listener);
        route.serve(client, &mut telling)
    });
    telling.over(result.is_err());
}

/// Takes one to its destination who was led here by BPF programs, and back.
pub(super) fn receive(guest: Guest, client: TcpStream, guide: &impl Guide, shared: &Shared) {
    let Guest { cookie, destination, process } = guest;
    let Expected { number, unwanted, .. } = shared.meetings.come(cookie);
    let mut telling = Telling::new(shared, number, unwanted.clone());
    if !shared.meetings.wait(cookie) {
        telling.began(destination, unwanted);
    }
    let result = match TcpStream::connect_timeout(&destination, OWN_PATIENCE) {
        Ok(server) => {
            let route = Route { destination, process, shared, server, asked: Vec::new() };
            route.serve(client, &mut telling)
        }
        Err(error) => {
            // Before the client can try again.
            guide.unreached(destination);
            telling.opaque(Opaque::Unreached);
            End::new(client, None).map(End::reset).and(Err(error))
        }
    };
    telling.over(result.is_err());
}

/// A listener that a socket of the destination's kind can connect to.
fn listen(destination: SocketAddr) -> io::Result<TcpListener> {
    let address = match destination.ip() {
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_none() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    TcpListener::bind((address, 0))
}

/// The one who was sent here; anybody else who finds the listener is turned away.
fn accept(listener: &TcpListener, port: u16) -> io::Result<TcpStream> {
    loop {
        if !wait([listener.as_fd()], ARRIVAL_MS.into())?[0] {
            return Err(ErrorKind::TimedOut.into());
        }
        let (client, from) = listener.accept()?;
        if from.port() == port {
            return Ok(client);
        }
    }
}

/// Which of them can be read, once one can.
fn wait<const N: usize>(
    sockets: [std::os::fd::BorrowedFd<'_>; N],
    timeout: PollTimeout,
) -> io::Result<[bool; N]> {
    let mut fds = sockets.map(|socket| PollFd::new(socket, PollFlags::POLLIN));
    while let Err(errno) = poll(&mut fds, timeout) {
        if errno != nix::errno::Errno::EINTR {
            return Err(errno.into());
        }
    }
    Ok(fds.map(|fd| fd.any().unwrap_or(true)))
}

/// Where a connection goes, and how far it has come.
struct Route<'s> {
    destination: SocketAddr,
    process: Tid,
    shared: &'s Shared,
    server: TcpStream,
    /// What another proxy on the way was asked: to be said again on another connection.
    asked: Vec<u8>,
}

/// What the first bytes are.
enum First {
    /// A handshake of TLS.
    Tls,
    /// A request to a proxy (RFC 9110, 9.3.6).
    Connect,
    Other,
}

/// What became of a handshake with the server.
enum Secured {
    By(Box<ClientConnection>),
    /// It is not ours to read.
    Not(Opaque),
}

impl Route<'_> {
    fn serve(mut self, mut client: TcpStream, telling: &mut Telling<'_>) -> io::Result<()> {
        client.set_nodelay(true)?;
        self.server.set_nodelay(true)?;
        loop {
            match self.first(&client)? {
                First::Tls => return self.serve_tls(client, telling),
                First::Connect if self.asked.is_empty() => {
                    self.asked = read_head(&mut client)?;
                    telling.bytes(Direction::Write, &self.asked);
                    self.server.write_all(&self.asked)?;
                    let answer = read_head(&mut self.server)?;
                    telling.bytes(Direction::Read, &answer);
                    client.write_all(&answer)?;
                    if !is_agreed(&answer) {
                        return self.pass_on(client, Vec::new(), telling);
                    }
                }
                First::Connect | First::Other => return self.pass_on(client, Vec::new(), telling),
            }
        }
    }

    /// Looks at what comes first, whoever sends it. A client of TLS speaks first.
    fn first(&self, client: &TcpStream) -> io::Result<First> {
        const HANDSHAKE: u8 = 22;
        let [from_client, _] = wait([client.as_fd(), self.server.as_fd()], PollTimeout::NONE)?;
        let mut bytes = [0; 8];
        let len = if from_client { client.peek(&mut bytes)? } else { 0 };
        Ok(match &bytes[..len] {
            [HANDSHAKE, ..] => First::Tls,
            b"CONNECT " => First::Connect,
            _ => First::Other,
        })
    }

    /// As it is, both ways. `first` was read of it.
    fn pass_on(
        self,
        client: TcpStream,
        first: Vec<u8>,
        telling: &mut Telling<'_>,
    ) -> io::Result<()> {
        both(End::new(client, None)?, End::new(self.server, None)?, first, telling)
    }

    /// The same of TLS that can't be read, for this reason.
    fn pass_on_tls(
        self,
        client: TcpStream,
        hello: Vec<u8>,
        why: Opaque,
        telling: &mut Telling<'_>,
    ) -> io::Result<()> {
        telling.opaque(why);
        self.pass_on(client, hello, telling)
    }

    fn serve_tls(mut self, mut client: TcpStream, telling: &mut Telling<'_>) -> io::Result<()> {
        let (hello, accepted) = read_hello(&mut client)?;
        let Some(accepted) = accepted else {
            return self.pass_on_tls(client, hello, Opaque::Handshake, telling);
        };
        let asked_for = accepted.client_hello();
        let name = asked_for.server_name().map(str::to_ascii_lowercase);
        let has_name = name.is_some();
        let name = name.unwrap_or_else(|| self.destination.ip().to_canonical().to_string());
        let protocols = asked_for.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
        let asking = (self.process, name.clone());
        if self.shared.verdicts.of(&asking) == Some(false) {
            return self.pass_on_tls(client, hello, Opaque::Distrusted, telling);
        }
        let key = (self.destination, name.clone());
        let known = lock(&self.shared.opaque).contains(&key);
        let secured = match known {
            true => Secured::Not(Opaque::Unverified),
            false => self.secure(&name, has_name, protocols)?,
        };
        let server = match secured {
            Secured::By(server) => server,
            Secured::Not(why) => {
                if !known {
                    remember(&mut lock(&self.shared.opaque), key);
                    self.connect_again()?;
                }
                return self.pass_on_tls(client, hello, why, telling);
            }
        };
        let config = self.shared.authority.server(&name, server.alpn_protocol());
        let Some(tls) = config.ok().and_then(|config| accepted.into_connection(config.into()).ok())
        else {
            drop(server);
            self.connect_again()?;
            return self.pass_on_tls(client, hello, Opaque::Handshake, telling);
        };
        let trial = self.shared.verdicts.try_one(asking);
        match self.welcome(&mut client, tls) {
            Ok(tls) => {
                trial.end(true);
                telling.decrypted();
                let client = End::new(client, Some(tls.into()))?;
                let server = End::new(self.server, Some((*server).into()))?;
                both(client, server, Vec::new(), telling)
            }
            Err(error) => {
                telling.bytes(Direction::Write, &hello);
                if is_distrust(&error) {
                    trial.end(false);
                    telling.opaque(Opaque::Distrusted);
                } else {
                    telling.opaque(Opaque::Handshake);
                }
                Err(error)
            }
        }
    }

    /// Shakes hands with the server as the client would: by this name, with these protocols.
    fn secure(
        &mut self,
        name: &str,
        has_name: bool,
        protocols: Vec<Vec<u8>>,
    ) -> io::Result<Secured> {
        let Ok(name) = ServerName::try_from(name.to_owned()) else {
            return Ok(Secured::Not(Opaque::Handshake));
        };
        let asks = Arc::new(NoCertificate::default());
        let mut config = self.shared.client.clone();
        config.alpn_protocols = protocols;
        config.enable_sni = has_name;
        config.client_auth_cert_resolver = Arc::<NoCertificate>::clone(&asks);
        let mut tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        self.server.set_read_timeout(Some(HANDSHAKE))?;
        let done = tls.complete_io(&mut self.server);
        Ok(match done {
            _ if asks.wanted.load(Ordering::Relaxed) => Secured::Not(Opaque::ClientCertificate),
            Ok(_) => Secured::By(Box::new(tls)),
            Err(error) => match tls_error(&error) {
                Some(rustls::Error::InvalidCertificate(_)) => Secured::Not(Opaque::Unverified),
                _ => Secured::Not(Opaque::Handshake),
            },
        })
    }

    /// Shakes hands with the client, in the server's place.
    fn welcome(
        &self,
        client: &mut TcpStream,
        mut tls: ServerConnection,
    ) -> io::Result<ServerConnection> {
        client.set_read_timeout(Some(HANDSHAKE))?;
        while tls.is_handshaking() {
            tls.complete_io(client)?;
        }
        Ok(tls)
    }

    /// Another connection to the server, in place of one that was used.
    fn connect_again(&mut self) -> io::Result<()> {
        self.server = TcpStream::connect_timeout(&self.destination, PATIENCE)?;
        self.server.set_nodelay(true)?;
        if !self.asked.is_empty() {
            self.server.write_all(&self.asked)?;
            if !is_agreed(&read_head(&mut self.server)?) {
                return Err(ErrorKind::ConnectionRefused.into());
            }
        }
        Ok(())
    }
}

/// Relays, and cuts both ends where one was cut.
fn both(
    mut client: End,
    mut server: End,
    first: Vec<u8>,
    telling: &mut Telling<'_>,
) -> io::Result<()> {
    let result = relay(&mut client, &mut server, first, telling);
    if result.is_err() {
        client.reset();
        server.reset();
    }
    result
}

/// All that came of a ClientHello, and what it means; None where it is none that we know.
fn read_hello(client: &mut TcpStream) -> io::Result<(Vec<u8>, Option<Accepted>)> {
    let (mut hello, mut acceptor) = (Vec::new(), Acceptor::default());
    let mut bytes = [0; 4096];
    while hello.len() < MAX_HELLO {
        let len = client.read(&mut bytes)?;
        hello.extend_from_slice(&bytes[..len]);
        let mut rest = &bytes[..len];
        loop {
            let taken = acceptor.read_tls(&mut rest);
            match acceptor.accept() {
                Ok(Some(accepted)) if rest.is_empty() => return Ok((hello, Some(accepted))),
                Ok(None) if taken.is_ok() && len > 0 => {}
                _ => return Ok((hello, None)),
            }
            if rest.is_empty() {
                break;
            }
        }
    }
    Ok((hello, None))
}

/// The head of a message of HTTP/1, and not a byte more.
fn read_head(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD {
            return Err(ErrorKind::InvalidData.into());
        }
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(head)
}

/// Whether a proxy answered that it is connected.
fn is_agreed(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.") && answer.get(9) == Some(&b'2')
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether a client said that it does not trust the certificate.
fn is_distrust(error: &io::Error) -> bool {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateUnknown, UnknownCA, UnsupportedCertificate,
    };
    let Some(rustls::Error::AlertReceived(alert)) = tls_error(error) else { return false };
    matches!(
        alert,
        AccessDenied | BadCertificate | CertificateUnknown | UnknownCA | UnsupportedCertificate
    )
}

fn remember<T: Eq + std::hash::Hash>(names: &mut std::collections::HashSet<T>, name: T) {
    if names.len() < MAX_NAMES {
        names.insert(name);
    }
}

/// Notices that the server asks for a certificate of the client's, which we have not.
#[derive(Debug, Default)]
struct NoCertificate {
    wanted: AtomicBool,
}

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.wanted.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}
