"""Every family of encoders with a head for questions: packed, padded or refused, and the documents say which."""

import encoder_families


def test_each_family_is_packed_padded_or_refused_as_the_documents_say(tmp_path):
    """Where they drift apart: make config-reference."""
    written = encoder_families.TABLE.search(encoder_families.DOCUMENT.read_text())
    assert written and written[0] == encoder_families.table(tmp_path)
