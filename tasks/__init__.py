"""The sciences that run on blockwise: each folder lifts a published model onto blocks."""
