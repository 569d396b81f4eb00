"""Frames on a serial line between host and board: one request, one answer, at most one of them on the way.

Request: REQUEST_MARK, sequence, kind (bit 7 a write, bits 5..0 words - 1), byte address (4), words of a write, CRC (4).
Answer: ANSWER_MARK, sequence, status (1: refused by the tile), words of a read, CRC (4).
Words, addresses and CRCs are little-endian. The CRC is CRC-32 (ISO-HDLC, as in zlib) of everything behind the mark.

A request with the sequence number of the one executed last is not executed again: its answer is repeated. Number
`SEQUENCE_ANEW` is the exception and always executed: a host opens with it, by a read that has no effect.
"""

__all__ = ["ANSWER_MARK", "BAUD", "MAX_WORDS", "REQUEST_MARK", "SEQUENCE_ANEW", "WRITE_BIT"]

REQUEST_MARK = 0xA5
ANSWER_MARK = 0x5A
WRITE_BIT = 0x80
MAX_WORDS = 64
SEQUENCE_ANEW = 0
BAUD = 1_000_000
"""Bits a second unless another rate is asked for; the ULX3S's USB chip and every clock of whole MHz make it exactly."""
