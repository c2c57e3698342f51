"""What a race found: records, the table made of them, and the file that holds them."""
