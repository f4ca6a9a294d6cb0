//! What fields of every kind can do: leave their frame, and be shown to a visitor.

use std::borrow::Cow;

use super::Layer;
use super::values::{Address, Certainty, Content, Lineage, Payload, RootTree, StandardFd, Watch};
use crate::{Bytes, ObjectId, ProcId, Seq, SnapshotIndex};

/// What all fields can do: be detached from the frame they were decoded from, and show what they refer to.
pub(super) trait Field {
    type Owned;
    /// Whether it can refer to another event.
    const REFERS: bool = false;
    fn into_owned(self) -> Self::Owned;
    fn visit(&mut self, _visitor: &mut impl Visitor) {}
}

/// Is shown the fields of an event that hold text or mean something outside of it, to read or to change them.
pub trait Visitor {
    /// The number of another event.
    fn seq(&mut self, _seq: &mut Seq) {}
    /// A value that may be an object.
    fn payload(&mut self, _payload: &mut Payload) {}
    /// Bytes that may be an object.
    fn content(&mut self, _content: &mut Content<'_>) {}
    /// Bytes: a path, an argument, a header.
    fn bytes(&mut self, _bytes: &mut Bytes<'_>) {}
    /// Text.
    fn text(&mut self, _text: &mut Cow<'_, str>) {}
    /// The address of an object that is bytes: the content of a file.
    fn object(&mut self, _id: &mut ObjectId) {}
    /// A root of a snapshot. Its path is shown as bytes too.
    fn root(&mut self, _root: &mut RootTree<'_>) {}
}

macro_rules! owned_already {
    ($($ty:ty),*) => { $(impl Field for $ty {
        type Owned = $ty;
        fn into_owned(self) -> $ty { self }
    })* };
}

owned_already!(bool, u8, u16, u32, u64, i32, i64, f64, String);
owned_already!(ProcId, SnapshotIndex, Certainty, Layer);

impl Field for ObjectId {
    type Owned = ObjectId;
    fn into_owned(self) -> ObjectId {
        self
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.object(self);
    }
}

impl Field for Seq {
    type Owned = Seq;
    const REFERS: bool = true;
    fn into_owned(self) -> Seq {
        self
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.seq(self);
    }
}

impl Field for Payload {
    type Owned = Payload;
    fn into_owned(self) -> Payload {
        self
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.payload(self);
    }
}

impl Field for Bytes<'_> {
    type Owned = Bytes<'static>;
    fn into_owned(self) -> Bytes<'static> {
        Bytes::into_owned(self)
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.bytes(self);
    }
}

impl Field for Cow<'_, str> {
    type Owned = Cow<'static, str>;
    fn into_owned(self) -> Cow<'static, str> {
        Cow::Owned(Cow::into_owned(self))
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.text(self);
    }
}

impl Field for Content<'_> {
    type Owned = Content<'static>;
    fn into_owned(self) -> Content<'static> {
        match self {
            Self::Inline(bytes) => Content::Inline(bytes.into_owned()),
            Self::Object { id, len } => Content::Object { id, len },
        }
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.content(self);
    }
}

impl Field for Address<'_> {
    type Owned = Address<'static>;
    fn into_owned(self) -> Address<'static> {
        let Self { family, host, port, path } = self;
        Address {
            family: Field::into_owned(family),
            host: Field::into_owned(host),
            port,
            path: path.into_owned(),
        }
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.family.visit(visitor);
        self.host.visit(visitor);
        self.path.visit(visitor);
    }
}

impl Field for StandardFd<'_> {
    type Owned = StandardFd<'static>;
    fn into_owned(self) -> StandardFd<'static> {
        StandardFd { kind: Field::into_owned(self.kind), cols: self.cols, rows: self.rows }
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.kind.visit(visitor);
    }
}

impl Field for Lineage<'_> {
    type Owned = Lineage<'static>;
    fn into_owned(self) -> Lineage<'static> {
        Lineage {
            session: Field::into_owned(self.session),
            at: Field::into_owned(self.at),
            edits: Field::into_owned(self.edits),
        }
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.session.visit(visitor);
        self.at.visit(visitor);
        self.edits.visit(visitor);
    }
}

impl Field for Watch<'_> {
    type Owned = Watch<'static>;
    fn into_owned(self) -> Watch<'static> {
        Watch {
            kind: Field::into_owned(self.kind),
            value: self.value.into_owned(),
            part: self.part,
            first: Field::into_owned(self.first),
        }
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.kind.visit(visitor);
        self.value.visit(visitor);
        self.first.visit(visitor);
    }
}

impl Field for RootTree<'_> {
    type Owned = RootTree<'static>;
    fn into_owned(self) -> RootTree<'static> {
        let Self { path, tree, files, bytes, left_out, self_contained, agent } = self;
        let (path, agent) = (path.into_owned(), Field::into_owned(agent));
        RootTree { path, tree, files, bytes, left_out, self_contained, agent }
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.root(self);
        self.path.visit(visitor);
        self.agent.visit(visitor);
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    type Owned = (A::Owned, B::Owned);
    fn into_owned(self) -> Self::Owned {
        (self.0.into_owned(), self.1.into_owned())
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.0.visit(visitor);
        self.1.visit(visitor);
    }
}

impl<T: Field> Field for Vec<T> {
    type Owned = Vec<T::Owned>;
    fn into_owned(self) -> Self::Owned {
        self.into_iter().map(Field::into_owned).collect()
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.iter_mut().for_each(|field| field.visit(visitor));
    }
}

impl<T: Field> Field for Option<T> {
    type Owned = Option<T::Owned>;
    const REFERS: bool = T::REFERS;
    fn into_owned(self) -> Self::Owned {
        self.map(Field::into_owned)
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        if let Some(field) = self {
            field.visit(visitor);
        }
    }
}
