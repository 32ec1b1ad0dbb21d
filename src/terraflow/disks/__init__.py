"""The disks on which files lie: what is free there, and what went wrong because of them."""
