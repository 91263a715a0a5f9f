//! A listening port that can go away (connections refused) and connections that can be reset under a request.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

pub struct Port {
    listener: Option<TcpListener>,
    address: SocketAddr,
    /// What is asked for, and what is so.
    away: watch::Receiver<bool>,
    is_away: watch::Sender<bool>,
    /// Cancelled as the port goes away: open connections end with it.
    open: CancellationToken,
}

impl Port {
    pub async fn bind(port: u16, away: watch::Receiver<bool>, is_away: watch::Sender<bool>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener: Some(listener), address, away, is_away, open: CancellationToken::new() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    async fn leave_or_return(&mut self) {
        if self.away.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if *self.away.borrow_and_update() {
            self.listener = None;
            self.open.cancel();
        } else if self.listener.is_none() {
            self.open = CancellationToken::new();
            self.listener = loop {
                match TcpListener::bind(self.address).await {
                    Ok(listener) => break Some(listener),
                    // Somebody's outgoing connection may hold the number for a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
        }
        self.is_away.send_replace(self.listener.is_none());
    }
}

impl Listener for Port {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            let Some(listener) = &self.listener else {
                self.leave_or_return().await;
                continue;
            };
            let mut away = self.away.clone();
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => return (Line::new(stream, self.open.child_token()), peer),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
                _ = away.changed() => self.leave_or_return().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.open.cancel();
    }
}

/// One connection. Once cut, every read and write fails and the peer sees a reset.
pub struct Line {
    stream: TcpStream,
    cut: CancellationToken,
    until_cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Line {
    fn new(stream: TcpStream, cut: CancellationToken) -> Self {
        let until_cut = Box::pin(cut.clone().cancelled_owned());
        Self { stream, cut, until_cut }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.cut.is_cancelled() && self.until_cut.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        // Without lingering, closing sends RST in the place of FIN.
        let _ = self.stream.set_zero_linger();
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Lets a handler cut the connection its request came on.
#[derive(Clone)]
pub struct Cut(pub CancellationToken);

impl Connected<IncomingStream<'_, Port>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Port>) -> Self {
        Self(stream.io().cut.clone())
    }
}
