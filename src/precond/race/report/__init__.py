"""The report of a race: from its records to one self-contained page, and pictures of the main curves.

``page`` puts the page together from ``sections``, which are made of ``markup``, ``ranking``, the ``charts`` of
``series`` and ``profiles``, and those of each ``tuning``; ``palette``, ``axes`` and ``plotly`` hold what charts share.
``verdict`` says in words what was shown, ``numbers`` writes numbers, ``pictures`` draws the PNG files.
``page.html``, ``page.css`` and ``page.js`` are what a browser gets besides Plotly.
"""

from precond.race.report.page import report_page, write_report

__all__ = ["report_page", "write_report"]
