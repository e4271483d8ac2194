//! Writes a form as `multipart/form-data`, byte by byte as Go's library does.

use std::io::{self, Write};

/// A form that is written. Its boundary is random, so no content contains it.
pub struct FormWriter<W> {
    sink: W,
    boundary: String,
    begun: bool,
}

impl<W: Write> FormWriter<W> {
    /// A form without parts. `boundary` has letters and digits only.
    pub fn new(sink: W, boundary: String) -> Self {
        Self { sink, boundary, begun: false }
    }

    /// The type of a form with this boundary.
    pub fn content_type(boundary: &str) -> String {
        format!("multipart/form-data; boundary={boundary}")
    }

    /// Begins a file, whose content is written to what is returned.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn file(&mut self, name: &str, file_name: &str) -> io::Result<&mut W> {
        self.begin()?;
        write!(
            self.sink,
            "Content-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )?;
        Ok(&mut self.sink)
    }

    /// Writes a text.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn field(&mut self, name: &str, value: &str) -> io::Result<()> {
        self.begin()?;
        write!(self.sink, "Content-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}")
    }

    /// Ends the form.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self) -> io::Result<W> {
        write!(self.sink, "\r\n--{}--\r\n", self.boundary)?;
        Ok(self.sink)
    }

    fn begin(&mut self) -> io::Result<()> {
        let line_end = if std::mem::replace(&mut self.begun, true) { "\r\n" } else { "" };
        write!(self.sink, "{line_end}--{}\r\n", self.boundary)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn form() -> Vec<u8> {
        let mut form = FormWriter::new(Vec::new(), "abc".into());
        form.file("archive", "archive.tar.gz").unwrap().write_all(b"bytes\r\n--ab\r\n").unwrap();
        form.field("checksum_archive", "1234").unwrap();
        form.finish().unwrap()
    }

    #[test]
    fn a_form_has_the_bytes_that_go_writes() {
        let expected = "--abc\r\nContent-Disposition: form-data; name=\"archive\"; filename=\"archive.tar.gz\"\r\n\
                        Content-Type: application/octet-stream\r\n\r\nbytes\r\n--ab\r\n\r\n--abc\r\n\
                        Content-Disposition: form-data; name=\"checksum_archive\"\r\n\r\n1234\r\n--abc--\r\n";
        assert_eq!(String::from_utf8(form()).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_form_is_read_back_in_any_pieces() {
        let form = form();
        let boundary = multer::parse_boundary(FormWriter::<Vec<u8>>::content_type("abc")).unwrap();
        for size in [1, 2, 7, 1000] {
            let pieces: Vec<io::Result<Vec<u8>>> = form.chunks(size).map(|piece| Ok(piece.to_vec())).collect();
            let mut form = multer::Multipart::new(stream::iter(pieces), boundary.clone());
            let archive = form.next_field().await.unwrap().unwrap();
            assert_eq!((archive.name(), archive.file_name()), (Some("archive"), Some("archive.tar.gz")));
            assert_eq!(&archive.bytes().await.unwrap()[..], b"bytes\r\n--ab\r\n");
            let checksum = form.next_field().await.unwrap().unwrap();
            assert_eq!(checksum.name(), Some("checksum_archive"));
            assert_eq!(checksum.text().await.unwrap(), "1234");
            assert!(form.next_field().await.unwrap().is_none());
        }
    }
}
