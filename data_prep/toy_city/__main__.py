"""`python -m data_prep.toy_city`."""

from data_prep.toy_city.city import main

main()
