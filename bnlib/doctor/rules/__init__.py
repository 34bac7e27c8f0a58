"""The rules of the doctor, one a file; `bnlib.doctor.registry` finds them."""
