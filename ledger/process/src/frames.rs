//! The frames that a caller sends: those that carry a call or a part of a message, and all others, which
//! cost their sender little and are work here. HTTP/2 (RFC 9113) itself is read elsewhere; here only
//! kinds and lengths are, so that a flood is seen as one.
//!
//! What must stay out: what becomes of a connection, and what frames say.

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// Of a gRPC message, kind and length: less is no part of one, but what is left over where another limit
/// has cut it.
const MESSAGE_HEADER: usize = 5;

/// Where in its frames a connection is.
#[derive(Debug)]
pub enum Frames {
    /// So much of the preface has come.
    Preface(usize),
    /// So much of the next frame's header has come.
    Header([u8; HEADER], usize),
    /// So much of the frame is still to come.
    Payload(usize),
    /// It is not HTTP/2.
    Other,
}

impl Default for Frames {
    /// Of a connection that begins.
    fn default() -> Self {
        Self::Preface(0)
    }
}

impl Frames {
    /// Where a frame ends.
    const NEXT: Self = Self::Header([0; HEADER], 0);

    /// Takes what comes next; gives how many frames began in it that carry neither a call nor a part
    /// of a message, nor end one.
    pub fn idle_in(&mut self, mut bytes: &[u8]) -> u32 {
        let mut idle = 0;
        while !bytes.is_empty() {
            match self {
                Self::Preface(come) => {
                    let (now, rest) = bytes.split_at(bytes.len().min(PREFACE.len() - *come));
                    bytes = rest;
                    *self = match *come + now.len() {
                        until if PREFACE[*come..until] != *now => Self::Other,
                        until if until < PREFACE.len() => Self::Preface(until),
                        _ => Self::NEXT,
                    };
                }
                Self::Header(header, come) => {
                    let (now, rest) = bytes.split_at(bytes.len().min(HEADER - *come));
                    bytes = rest;
                    header[*come..*come + now.len()].copy_from_slice(now);
                    *come += now.len();
                    if *come < HEADER {
                        return idle;
                    }
                    let [high, middle, low, kind, flags, ..] = *header;
                    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                    idle += u32::from(is_idle(kind, flags, length));
                    *self = match length {
                        0 => Self::NEXT,
                        length => Self::Payload(length),
                    };
                }
                Self::Payload(left) => {
                    let now = bytes.len().min(*left);
                    bytes = &bytes[now..];
                    *left -= now;
                    if *left == 0 {
                        *self = Self::NEXT;
                    }
                }
                Self::Other => return idle,
            }
        }
        idle
    }
}

fn is_idle(kind: u8, flags: u8, length: usize) -> bool {
    match kind {
        HEADERS | CONTINUATION => false,
        DATA => length < MESSAGE_HEADER && flags & END_STREAM == 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let header = [0, 0, length, kind, flags, 0, 0, 0, 1];
        [&header[..], &vec![PING; length.into()]].concat()
    }

    #[test]
    fn frames_are_told_apart_wherever_they_are_cut() {
        let frames = [
            frame(HEADERS, 0, 40),
            frame(CONTINUATION, 4, 3),
            frame(DATA, 0, 0),
            frame(DATA, 0, 4),
            frame(DATA, 0, 200),
            frame(PING, 0, 8),
            frame(DATA, END_STREAM, 0),
            frame(4, 1, 0),
            frame(200, 0, 1),
        ];
        let bytes = [PREFACE.to_vec(), frames.concat()].concat();
        for step in 1..=bytes.len() {
            let mut frames = Frames::default();
            let idle: u32 = bytes.chunks(step).map(|part| frames.idle_in(part)).sum();
            assert_eq!(idle, 5, "{step} bytes at a time");
        }
    }

    #[test]
    fn what_is_not_http2_has_no_frames() {
        for text in ["GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n"] {
            let bytes = [text.as_bytes(), &frame(PING, 0, 8)].concat();
            let mut frames = Frames::default();
            assert_eq!(bytes.chunks(5).map(|part| frames.idle_in(part)).sum::<u32>(), 0);
        }
    }
}
