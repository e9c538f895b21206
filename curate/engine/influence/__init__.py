"""Influence of training rows on evaluation rows: exact at the head (`head`), approximate below it (`deep`)."""
