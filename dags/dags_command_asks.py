
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param, dag

@dag(schedule=None, params={"n": Param(1, type="integer", minimum=0)})
def dags_command_asks():
    HITLOperator(
        task_id="ask", subject="Shall it?", body="Some **text**", options=["Approve", "Reject"],
        params={"reason": Param("", type="string")},
    )

dags_command_asks()
