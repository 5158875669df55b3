"""What pymesos needs of the C extension of that name, which no longer builds."""
