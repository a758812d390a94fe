//! A request as a file for the case file: PDF/A-2a, which archives take and screen readers read, with all that was asked and answered.
//!
//! Text flows down the pages in blocks; a block is a heading or a paragraph, and one element of the document's structure.

use std::{num::NonZeroU16, sync::LazyLock};

use airut_domain::{time::Timestamp, working_day};
use krilla::{
    Document, SerializeSettings,
    color::rgb,
    configure::{Archival, ConfigurationBuilder},
    destination::XyzDestination,
    geom::Point,
    metadata::{DateTime, Metadata},
    num::NormalizedF32,
    outline::{Outline, OutlineNode},
    page::PageSettings,
    paint::Fill,
    tagging::{Artifact, ArtifactType, ContentTag, SpanTag, Tag, TagGroup, TagKind, TagTree},
    text::{Font, TextDirection},
};
use skrifa::{
    FontRef, MetadataProvider,
    instance::{LocationRef, Size},
};

use super::request::{Shown, ShownStep};
use crate::{language::Texts, web::visit::Caller};

/// A4 in points, and what is left free around the text.
const WIDTH: f32 = 595.0;
const HEIGHT: f32 = 842.0;
const MARGIN: f32 = 62.0;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaseFileError {
    /// A font of the build's own can't be used.
    #[error("a font is missing")]
    Font,
    /// It would not be what archives take.
    #[error("not PDF/A: {0}")]
    NotArchival(String),
}

struct Face {
    data: &'static [u8],
    font: Font,
}

/// Libertinus Serif, regular and bold, out of the fonts that come with the build.
static FACES: LazyLock<Option<[Face; 2]>> = LazyLock::new(|| Some([face(400.0)?, face(700.0)?]));

fn face(weight: f32) -> Option<Face> {
    let data = typst_assets::fonts().find(|data| {
        FontRef::new(data).is_ok_and(|font| {
            let name = |id| font.localized_strings(id).english_or_first().map(|name| name.to_string());
            let attributes = font.attributes();
            name(skrifa::string::StringId::FAMILY_NAME).as_deref() == Some("Libertinus Serif")
                && attributes.weight.value() == weight
                && attributes.style == skrifa::attribute::Style::Normal
        })
    })?;
    Some(Face { data, font: Font::new(data.to_vec().into(), 0)? })
}

/// What a block of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Title,
    Heading,
    Label,
    Text,
}

impl Block {
    /// Which face, how large, and how much room before it, in points.
    const fn look(self) -> (usize, f32, f32) {
        match self {
            Self::Title => (1, 18.0, 0.0),
            Self::Heading => (1, 13.0, 16.0),
            Self::Label => (1, 10.5, 8.0),
            Self::Text => (0, 10.5, 1.0),
        }
    }

    fn tag(self) -> TagKind {
        let heading = |level: u16| Tag::Hn(NonZeroU16::new(level).unwrap_or(NonZeroU16::MIN), None);
        match self {
            Self::Title => heading(1).into(),
            Self::Heading => heading(2).into(),
            Self::Label | Self::Text => Tag::P.into(),
        }
    }
}

/// A line where it goes.
struct Line {
    page: usize,
    y: f32,
    block: usize,
    text: String,
}

/// Makes the file.
pub(crate) fn made(caller: &Caller, request: &Shown, now: Timestamp) -> Result<Vec<u8>, CaseFileError> {
    let t = caller.texts();
    let title = format!("{} {}", request.title, request.id);
    let foot = t.with("case-file-made", &[("name", &caller.official.end_user()), ("time", &t.moment(now))]);
    written(t, &title, &blocks(t, request), &foot, now)
}

fn blocks(t: &Texts, request: &Shown) -> Vec<(Block, String)> {
    let mut blocks = vec![(Block::Title, request.title.clone())];
    let mut line = |key: &str, text: &str| {
        if !text.is_empty() {
            blocks.push((Block::Text, format!("{}: {text}", t.of(key))));
        }
    };
    line("request-id", &request.id);
    line("request-person", &request.person);
    line("request-case", &request.case);
    line("request-requester", &request.requester);
    line("request-responder", &request.responder);
    line("request-state", &request.state);
    line("request-due", &request.due);
    line("request-created", &request.created);
    line("request-read", request.read.as_deref().unwrap_or_default());
    line("request-answered", request.answered.as_deref().unwrap_or_default());
    for step in &request.steps {
        step_blocks(t, step, &mut blocks);
    }
    blocks
}

fn step_blocks(t: &Texts, step: &ShownStep, blocks: &mut Vec<(Block, String)>) {
    blocks.push((Block::Heading, format!("{}, {}", step.action, step.time)));
    blocks.push((Block::Text, format!("{}, {}, {}", step.partner, step.end_user, step.role)));
    if !step.contact.unit.is_empty() {
        let (unit, telephone) = (&step.contact.unit, &step.contact.telephone);
        blocks.push((Block::Text, format!("{unit}, {telephone}")));
    }
    for (heading, text) in &step.texts {
        blocks.push((Block::Label, heading.clone()));
        blocks.push((Block::Text, text.clone()));
    }
    if !step.documents.is_empty() {
        blocks.push((Block::Label, t.of("step-documents")));
        blocks.extend(step.documents.iter().map(|document| (Block::Text, document.name.clone())));
    }
}

fn written(
    t: &Texts,
    title: &str,
    blocks: &[(Block, String)],
    foot: &str,
    now: Timestamp,
) -> Result<Vec<u8>, CaseFileError> {
    let faces = FACES.as_ref().ok_or(CaseFileError::Font)?;
    let (lines, pages) = laid_out(faces, blocks);
    let configuration = ConfigurationBuilder::new().with_archival_validator(Archival::A2_A).finish();
    let configuration = configuration.map_err(|cause| CaseFileError::NotArchival(format!("{cause:?}")))?;
    let mut document = Document::new_with(SerializeSettings { configuration, ..SerializeSettings::default() });
    let mut groups: Vec<TagGroup> = blocks.iter().map(|(block, _)| TagGroup::new(block.tag())).collect();
    for number in 0..pages {
        let settings = PageSettings::from_wh(WIDTH, HEIGHT).ok_or(CaseFileError::Font)?;
        let mut page = document.start_page_with(settings);
        let mut surface = page.surface();
        surface.set_fill(Some(Fill {
            paint: rgb::Color::new(30, 30, 30).into(),
            opacity: NormalizedF32::ONE,
            rule: Default::default(),
        }));
        for line in lines.iter().filter(|line| line.page == number) {
            let (face, size, _) = blocks[line.block].0.look();
            let id = surface.start_tagged(ContentTag::Span(SpanTag::empty()));
            let (at, font) = (Point::from_xy(MARGIN, line.y), faces[face].font.clone());
            surface.draw_text(at, font, size, &line.text, false, TextDirection::Auto);
            surface.end_tagged();
            groups[line.block].push(id);
        }
        surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(ArtifactType::Footer)));
        let text = known(faces, 0, &format!("{foot}   {}/{pages}", number + 1));
        surface.draw_text(
            Point::from_xy(MARGIN, HEIGHT - 36.0),
            faces[0].font.clone(),
            8.5,
            &text,
            false,
            TextDirection::Auto,
        );
        surface.end_tagged();
        surface.finish();
        page.finish();
    }
    let mut tree = TagTree::new().with_lang(Some(t.language().code().to_owned()));
    groups.into_iter().for_each(|group| tree.push(group));
    document.set_tag_tree(tree);
    document.set_outline(outline(blocks, &lines));
    document.set_metadata(metadata(t, title, now));
    document.finish().map_err(|cause| CaseFileError::NotArchival(format!("{cause:?}")))
}

fn metadata(t: &Texts, title: &str, now: Timestamp) -> Metadata {
    let local = working_day::wall_clock(now);
    let year = u16::try_from(local.year()).unwrap_or(0);
    let made = DateTime::new(year)
        .month(local.month().into())
        .day(local.day())
        .hour(local.hour())
        .minute(local.minute())
        .second(local.second());
    Metadata::new()
        .title(title.to_owned())
        .language(t.language().code().to_owned())
        .creator("Airut".to_owned())
        .creation_date(made)
}

/// Each step, to go to.
fn outline(blocks: &[(Block, String)], lines: &[Line]) -> Outline {
    let mut outline = Outline::new();
    for (number, (block, text)) in blocks.iter().enumerate() {
        let first = lines.iter().find(|line| line.block == number);
        if let (Block::Title | Block::Heading, Some(first)) = (block, first) {
            let there = XyzDestination::new(first.page, Point::from_xy(MARGIN, first.y - 14.0));
            outline.push_child(OutlineNode::new(text.clone(), there));
        }
    }
    outline
}

/// Breaks blocks into lines, and these into pages.
fn laid_out(faces: &[Face; 2], blocks: &[(Block, String)]) -> (Vec<Line>, usize) {
    let (mut lines, mut page, mut y) = (Vec::new(), 0, MARGIN);
    for (number, (block, text)) in blocks.iter().enumerate() {
        let (face, size, before) = block.look();
        let height = size * 1.4;
        // A heading does not stay behind alone.
        let least = if *block == Block::Text { height } else { height * 3.0 };
        if y + before + least > HEIGHT - MARGIN {
            (page, y) = (page + 1, MARGIN);
        }
        y += before;
        for paragraph in text.split('\n') {
            for text in broken(faces, face, size, &known(faces, face, paragraph)) {
                if y + height > HEIGHT - MARGIN {
                    (page, y) = (page + 1, MARGIN);
                }
                y += height;
                lines.push(Line { page, y, block: number, text });
            }
        }
    }
    (lines, page + 1)
}

/// What the font has no sign for is shown as a question mark rather than not at all.
fn known(faces: &[Face; 2], face: usize, text: &str) -> String {
    let Ok(font) = FontRef::new(faces[face].data) else { return String::new() };
    let signs = font.charmap();
    text.chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .map(|c| if signs.map(c).is_some() { c } else { '?' })
        .collect()
}

/// Lines that fit beside the margins. A word that is longer than a line is cut.
fn broken(faces: &[Face; 2], face: usize, size: f32, text: &str) -> Vec<String> {
    let Ok(font) = FontRef::new(faces[face].data) else { return Vec::new() };
    let (signs, widths) = (font.charmap(), font.glyph_metrics(Size::new(size), LocationRef::default()));
    let width = |c: char| signs.map(c).and_then(|glyph| widths.advance_width(glyph)).unwrap_or(size);
    let room = WIDTH - 2.0 * MARGIN;
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0.0);
    for word in text.split_inclusive(' ') {
        let long: f32 = word.trim_end().chars().map(width).sum();
        if used + long > room && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
            used = 0.0;
        }
        for c in word.chars() {
            if used + width(c) > room && c != ' ' {
                lines.push(std::mem::take(&mut line));
                used = 0.0;
            }
            line.push(c);
            used += width(c);
        }
    }
    lines.push(line);
    // A blank line still is one, and holds something to draw.
    lines.into_iter().map(|line| if line.is_empty() { " ".to_owned() } else { line }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Language;

    #[test]
    fn a_long_case_with_odd_signs_is_pdf_a() {
        let long = "Asiakkaalle on myönnetty täydentävää toimeentulotukea. ".repeat(120);
        let blocks = vec![
            (Block::Title, "Lausunto".to_owned()),
            (Block::Heading, "Step".to_owned()),
            (Block::Label, "Question".to_owned()),
            (Block::Text, format!("{long}\n\n\u{1f600}\tŠćepanović {}", "x".repeat(400))),
        ];
        let now = Timestamp::from_millis(1_800_000_000_000);
        let made = written(Language::Fi.texts(), "Lausunto 1", &blocks, "made", now).expect("a file");
        assert!(made.starts_with(b"%PDF-1.7"));
        let (lines, pages) = laid_out(FACES.as_ref().unwrap(), &blocks);
        assert!(pages > 1 && lines.iter().all(|line| line.y <= HEIGHT - MARGIN));
        let again: String = lines.iter().filter(|line| line.block == 3).map(|line| line.text.as_str()).collect();
        assert!(again.starts_with(long.trim_end()) && again.contains("? Šćepanović x"), "{again}");
    }
}
