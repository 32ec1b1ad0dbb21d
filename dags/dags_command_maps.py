
import pendulum
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException

@dag(schedule="@monthly", start_date=pendulum.datetime(2024, 1, 1), catchup=False)
def dags_command_maps():
    @task
    def odd(number):
        if number % 2 == 0:
            raise AirflowSkipException("Even numbers are left out.")
        print("number", number)

    odd.expand(number=[1, 2, 3])

dags_command_maps()
