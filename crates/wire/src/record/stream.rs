//! The stored form of the records of opened streams in `airut.members`.

use std::collections::BTreeSet;

use airut_domain::{
    id::MessageType,
    member::{StreamKind, StreamOpened, Types},
};

use super::{Unreadable, parse};
use crate::log_v1 as pb;

/// An opened stream for its record.
pub(super) fn opened(opened: &StreamOpened) -> pb::StreamOpened {
    pb::StreamOpened {
        stream: opened.stream.to_string(),
        holder: opened.holder.to_string(),
        responder: opened.partner.to_string(),
        collects: opened.kind == StreamKind::Collects,
        message_types: opened.types.names().map(ToString::to_string).collect(),
    }
}

/// Reads an opened stream. A record from before there were types of streams has none, and so means all.
pub(super) fn opened_from(opened: &pb::StreamOpened) -> Result<StreamOpened, Unreadable> {
    let types: BTreeSet<MessageType> =
        opened.message_types.iter().map(|name| parse(name, "message_types")).collect::<Result<_, _>>()?;
    Ok(StreamOpened {
        stream: parse(&opened.stream, "stream")?,
        holder: parse(&opened.holder, "holder")?,
        partner: parse(&opened.responder, "responder")?,
        kind: if opened.collects { StreamKind::Collects } else { StreamKind::Answers },
        types: Types::named(types),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collects(types: &[&str]) -> StreamOpened {
        StreamOpened {
            stream: "gateway-1/1".parse().expect("valid"),
            holder: "gateway-1".parse().expect("valid"),
            partner: "pirkanmaa".parse().expect("valid"),
            kind: StreamKind::Collects,
            types: Types::named(types.iter().map(|name| name.parse().expect("valid")).collect()),
        }
    }

    #[test]
    fn an_opened_stream_reads_back_with_its_types() {
        for stream in [collects(&[]), collects(&["reduced-basic-amount", "social-work-need"])] {
            assert_eq!(opened_from(&opened(&stream)), Ok(stream));
        }
        let unreadable = pb::StreamOpened { message_types: vec!["a b".into()], ..opened(&collects(&[])) };
        assert_eq!(opened_from(&unreadable), Err(Unreadable::Field("message_types")));
    }

    #[test]
    fn a_stream_of_every_type_is_written_as_before_there_were_types() {
        // Builds that know no types go on reading it, and what they wrote is read as a stream of every type.
        let bytes = prost::Message::encode_to_vec(&opened(&collects(&[])));
        assert_eq!(bytes, b"\x0a\x0bgateway-1/1\x12\x09gateway-1\x1a\x09pirkanmaa\x20\x01");
    }
}
