"""To and from a PACS: studies are received or fetched into folders, results are sent.

``addresses`` says where; ``receive`` with ``incoming`` listens (C-STORE), ``retrieve`` fetches
(QIDO-RS, WADO-RS), ``send`` sends (C-STORE, STOW-RS). No value of a tag becomes part of a path.
"""
