//! WebSocket frames (RFC 6455, section 5), as much as a server needs.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// No client of a port-forward sends more at once.
const LARGEST: u64 = 4 * 1024 * 1024;

/// What a client sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Close,
    Other,
}

/// Reads frames up to the end of a message.
pub(crate) async fn read_message<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Message> {
    let mut whole = Vec::new();
    loop {
        let (last, code, payload) = read_frame(reader).await?;
        match code {
            0..=2 => {
                whole.extend(payload);
                if whole.len() as u64 > LARGEST {
                    return Err(io::Error::other("the message is too large"));
                }
                if last {
                    return Ok(Message::Binary(whole));
                }
            }
            8 => return Ok(Message::Close),
            9 => return Ok(Message::Ping(payload)),
            _ => return Ok(Message::Other),
        }
    }
}

async fn read_frame<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<(bool, u8, Vec<u8>)> {
    let (first, second) = (reader.read_u8().await?, reader.read_u8().await?);
    let length = match second & 0x7f {
        126 => u64::from(reader.read_u16().await?),
        127 => reader.read_u64().await?,
        short => u64::from(short),
    };
    if length > LARGEST {
        return Err(io::Error::other("the frame is too large"));
    }
    let mut mask = [0_u8; 4];
    if second & 0x80 != 0 {
        reader.read_exact(&mut mask).await?;
    }
    let mut payload = vec![0; usize::try_from(length).unwrap_or(0)];
    reader.read_exact(&mut payload).await?;
    payload
        .iter_mut()
        .zip(mask.iter().cycle())
        .for_each(|(byte, mask)| *byte ^= mask);
    Ok((first & 0x80 != 0, first & 0x0f, payload))
}

pub(crate) async fn write_binary<W: AsyncWrite + Unpin>(
    writer: &mut W,
    payload: &[u8],
) -> io::Result<()> {
    write_frame(writer, 2, payload).await
}

pub(crate) async fn write_pong<W: AsyncWrite + Unpin>(
    writer: &mut W,
    payload: &[u8],
) -> io::Result<()> {
    write_frame(writer, 10, payload).await
}

/// Closes with 1000, all is well.
pub(crate) async fn write_close<W: AsyncWrite + Unpin>(writer: &mut W) -> io::Result<()> {
    write_frame(writer, 8, &1000_u16.to_be_bytes()).await
}

async fn write_frame<W: AsyncWrite + Unpin>(
    writer: &mut W,
    code: u8,
    payload: &[u8],
) -> io::Result<()> {
    let mut frame = vec![0x80 | code];
    match payload.len() {
        short @ 0..=125 => frame.push(u8::try_from(short).unwrap_or(125)),
        middle @ 126..=0xffff => {
            frame.push(126);
            frame.extend(u16::try_from(middle).unwrap_or(u16::MAX).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    writer.write_all(&frame).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_of_every_length_come_back() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![7_u8; length];
            let mut bytes = Vec::new();
            write_binary(&mut bytes, &payload).await.unwrap();
            assert_eq!(
                read_message(&mut bytes.as_slice()).await.unwrap(),
                Message::Binary(payload)
            );
        }
    }

    #[tokio::test]
    async fn masked_and_split_messages_are_put_together() {
        let mut bytes = vec![0x02, 0x82, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2];
        bytes.extend([0x80, 0x01, b'c']);
        assert_eq!(
            read_message(&mut bytes.as_slice()).await.unwrap(),
            Message::Binary(b"abc".to_vec())
        );
        let huge = [0x82_u8, 127, 0, 0, 0, 255, 0, 0, 0, 0];
        assert!(read_message(&mut huge.as_slice()).await.is_err());
    }
}
